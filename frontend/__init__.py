"""Import models into TVM, one file per kind of input, and prune them. Needs torch. torch at the top level.

module            an nn.Module and example arguments
pt2               a file written by torch.export.save
factory           "package.module:factory", a callable that returns an nn.Module and its example arguments
state_dict        load weights from a .safetensors or .pt file into a module
file_kinds        what a file is that is no model, or no weights
refusals          what torch.export cannot take, and the way that works
exported_program  the common last step: an ExportedProgram becomes an ImportedModel
converters        operators that TVM's importer does not convert correctly
pruning           pruning of an nn.Module: at once, while it trains, by distillation, a pattern for each layer
"""
