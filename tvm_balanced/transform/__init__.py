"""The passes, one file each. Importing this package registers operators, pipeline and errors with TVM, once."""

import tvm_ffi

from tvm_balanced import errors, ops
from tvm_balanced.transform import annotate_schedule_rule, lower_dense_ops, pipeline
from tvm_balanced.transform.annotate_schedule_rule import AnnotateScheduleRule
from tvm_balanced.transform.fuse_epilogue import FuseEpilogue
from tvm_balanced.transform.rewrite_balanced_dense import RewriteBalancedDense

__all__ = ["AnnotateScheduleRule", "FuseEpilogue", "RewriteBalancedDense"]

ops.register(lower_dense_ops.legalize)
pipeline.register()
annotate_schedule_rule.register()
# A pass is called through TVM, which turns errors that it does not know into RuntimeError.
for _error in vars(errors).values():
    if isinstance(_error, type) and issubclass(_error, errors.TvmBalancedError):
        tvm_ffi.register_error(_error.__name__, _error)
