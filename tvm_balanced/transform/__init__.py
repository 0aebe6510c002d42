"""The passes, one file each. Importing this package registers operators, pipeline and errors with TVM, once."""

import tvm_ffi

from tvm_balanced import errors, ops
from tvm_balanced.transform import lower_dense_ops, pipeline

ops.register(lower_dense_ops.legalize)
pipeline.register()
# A pass is called through TVM, which turns errors that it does not know into RuntimeError.
for _error in vars(errors).values():
    if isinstance(_error, type) and issubclass(_error, errors.TvmBalancedError):
        tvm_ffi.register_error(_error.__name__, _error)
