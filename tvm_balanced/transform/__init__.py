"""The passes, one file each. Importing this package registers operators and pipeline with TVM, once."""

from tvm_balanced import op
from tvm_balanced.transform import pipeline

op.register()
pipeline.register()
