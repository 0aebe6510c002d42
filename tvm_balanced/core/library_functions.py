"""Names by which compiled code asks its process for a library; `runtime/cuda/libraries.py` answers, or what a line says."""

# (device, dtype, activation, m, n, k, elements from one row of the weight to the next, y, x, weight, bias, residual) --> int
DENSE = "tvm_balanced.dense_by_library"
# the same of a weight of which every four columns keep at most two, with the rows of x from which that pays behind the elements
TWO_OF_FOUR = "tvm_balanced.two_of_four_by_library"
# (device, dtype, activation, the convolution as JSON, batch, n, y, x, weight, bias, residual) --> int
CONV = "tvm_balanced.conv_by_library"
# (device) --> whether there is a library that computes attention
ATTENTION_USABLE = "tvm_balanced.attention_library_usable"
# (device, what it is told as JSON, queries, keys, values[, mask]) --> the result, a tensor of the library's own
ATTENTION = "tvm_balanced.attention_by_library"
# (what it is told as JSON, tensors) --> one tensor or several; `runtime/torch_operators.py` answers
TORCH_OPERATOR = "tvm_balanced.torch_operator"
