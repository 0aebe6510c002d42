"""Import models into TVM, one file per kind of input, and prune them. All but ONNX needs torch.

sources           what a model was given as, and which of these takes it
module            an nn.Module and example arguments
pt2               a file written by torch.export.save
factory           "package.module:factory", a callable that returns an nn.Module and its example arguments
huggingface       a folder of transformers: config.json, weights, tokenizer
onnx              an ONNX model
causal_lm         a causal language model of transformers, with a cache of keys and values
seq2seq_lm        one with an encoder, as T5
state_dict        load weights from a checkpoint into a module
checkpoint        what a checkpoint holds, in one file or in several
compressed_tensors  weights of compressed-tensors, made plain
masks             the masks of a pruning run, in a file of their own
live_weights      what pruning and quantising tools leave in a module, made plain
structures        how a model nests what it takes and returns
file_kinds        what a file is that is no model, or no weights
refusals          what torch.export cannot take, and the way that works
inference         the user's model run as it is deployed, and left as it was
exported_program  the common last step: an ExportedProgram becomes an ImportedModel
converters        operators that TVM's importer does not convert correctly
pruning           pruning of an nn.Module: at once, while it trains, by distillation, a pattern for each layer
"""
