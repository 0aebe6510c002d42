"""The ways in, one file each, and pruning. The only room that imports torch.

module            an nn.Module and example arguments
pt2               a file that torch.export.save wrote
factory           "package.module:factory", a callable that returns an nn.Module and its example arguments
state_dict        weights from a .safetensors or .pt file, into a module
exported_program  what the others end in: an ExportedProgram becomes an ImportedModel
prune             one-shot balanced pruning of an nn.Module
minilm            the sentence encoder of the demo
rivals            PyTorch's own ways to compute a dense layer, to be measured against
"""
