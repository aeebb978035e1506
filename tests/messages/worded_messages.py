"""Messages in the words of other versions of PyTorch, from 0.3 on, and of CUDA: they can't be raised here."""

from __future__ import annotations

WORDINGS = [
    ("no-grad-fn", "element 0 of variables does not require grad and does not have a grad_fn"),
    ("no-grad-fn", "there are no graph nodes that require computing gradients"),
    ("no-inputs", "grad requires non-empty inputs."),
    ("unused-input", "One of the differentiated Tensors appears to not have been used in the graph. Set "
                     "allow_unused=True if this is the desired behavior."),
    ("unused-input", "One of the differentiated Variables appears to not have been used in the graph"),
    ("second-backward", "Trying to backward through the graph a second time, but the buffers have already been freed. "
                        "Specify retain_graph=True when calling backward the first time."),
    ("second-backward", "Trying to backward through the graph a second time, but the saved intermediate results have "
                        "already been freed. Specify retain_graph=True when calling .backward() or autograd.grad() "
                        "the first time."),
    ("modified-in-place", "one of the variables needed for gradient computation has been modified by an inplace "
                          "operation"),
    ("modified-in-place", "one of the variables needed for gradient computation has been modified by an inplace "
                          "operation: [torch.cuda.FloatTensor [64, 512]], which is output 0 of TBackward, is at "
                          "version 3; expected version 2 instead. Hint: enable anomaly detection"),
    ("modified-in-place", "one of the variables needed for gradient computation has been modified by an inplace "
                          "operation: [torch.cuda.HalfTensor [64, 512]], which is output 0 of AsStridedBackward0, is "
                          "at version 3; expected version 2 instead. Hint: the backtrace further above shows the "
                          "operation that failed to compute its gradient. The variable in question was changed in "
                          "there or anywhere later. Good luck!"),
    ("leaf-in-place", "a leaf Variable that requires grad has been used in an in-place operation."),
    ("moved-leaf", "leaf variable has been moved into the graph interior"),
    ("view-in-place", "Output 0 of UnbindBackward is a view and is being modified inplace. This view is the output of "
                      "a function that returns multiple views. Such functions do not allow the output views to be "
                      "modified inplace. You should replace the inplace operation by an out-of-place one."),
    ("view-in-place", "Output 3 of BroadcastBackward0 is a view and is being modified inplace. This view is the output "
                      "of a function that returns multiple views. Such functions do not allow the output views to be "
                      "modified inplace. You should replace the inplace operation by an out-of-place one."),
    ("view-in-place", "Output 0 of BroadcastBackward is a view and its base or another view of its base has been modified "
                      "inplace. This view is the output of a function that returns multiple views. Such functions do not "
                      "allow the output views to be modified inplace."),
    ("devices", "Caught RuntimeError in replica 1 on device 1.\nOriginal Traceback (most recent call last):\n  File "
                "\"net.py\", line 9, in forward\n    h = h + self.mask\nRuntimeError: Expected all tensors to be on the "
                "same device, but found at least two devices, cuda:1 and cuda:0!"),
    ("devices", "module must have its parameters and buffers on device cuda:1 (device_ids[0]) but found one of them on "
                "device: cpu"),
    ("tuple-for-tensor", "AttributeError: 'tuple' object has no attribute 'view'"),
    ("tuple-for-tensor", "TypeError: unsupported operand type(s) for *: 'float' and 'tuple'"),
    ("tuple-for-tensor", "unsupported operand type(s) for -: 'tuple' and 'Tensor'"),
    ("tuple-for-tensor", "bad operand type for unary -: 'tuple'"),
    ("complex-gradient-of-real", "Expected isFloatingType(grad.scalar_type()) || (input_is_complex == grad_is_complex) to be "
                                 "true, but got false.  (Could this error message be improved?  If so, please report an "
                                 "enhancement request to PyTorch.)"),
    ("floats-only", "Only Tensors of floating point dtype can require gradients"),
    ("numpy-grad", "Can't call numpy() on Variable that requires grad. Use var.detach().numpy() instead."),
    ("gradients-type", "gradients can be either Tensors, Variables or None, but got float"),
    ("implicit-grad-complex", "grad can be computed only for real scalar outputs but got torch.complex64"),
    ("nan-in-backward", "Function 'DivBackward0' returned nan values in its 1th output."),
    ("nan-in-backward", "Function 'SqrtBackward' returned nan values in its 0th output."),
    ("non-leaf-grad", "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its .grad "
                      "attribute won't be populated during autograd.backward(). If you indeed want the gradient for a "
                      "non-leaf Tensor, use .retain_grad() on the non-leaf Tensor."),
    ("assigned-grad", "assigned grad has data of a different size"),
    ("matrix-product", "size mismatch, m1: [32 x 100], m2: [200 x 10] at "
                       "/pytorch/aten/src/TH/generic/THTensorMath.cpp:752"),
    ("matrix-product", "mat1 dim 1 must match mat2 dim 0"),
    ("matrix-product", "a and b must have same reduction dim, but got [2, 3] X [4, 5]."),
    ("matrix-vector", "size mismatch, get 2, 2x3,4"),
    ("matrix-vector", "size mismatch, [2 x 3], [4] at /pytorch/aten/src/TH/generic/THTensorMath.cpp:193"),
    ("dot-length", "inconsistent tensor size, expected tensor [3] and src [4] to have the same number of elements, "
                   "but got 3 and 4 elements respectively at /pytorch/aten/src/TH/generic/THTensorEvenMoreMath.cpp:723"),
    ("dot-dimensions", "1D tensors expected, got 2D, 1D tensors at "
                       "/opt/conda/conda-bld/pytorch/aten/src/TH/generic/THTensorEvenMoreMath.cpp:723"),
    ("matrix-needed", "matrices expected, got 3D, 2D tensors at /pytorch/aten/src/TH/generic/THTensorMath.cpp:36"),
    ("reshape-count", "invalid argument 2: size '[4 x 2]' is invalid for input with 6 elements at "
                      "/pytorch/aten/src/TH/THStorage.cpp:84"),
    ("view-stride", "invalid argument 2: view size is not compatible with input tensor's size and stride (at least "
                    "one dimension spans across two contiguous subspaces). Call .contiguous() before .view()."),
    ("cat-sizes", "invalid argument 0: Sizes of tensors must match except in dimension 0. Got 3 and 4 in dimension 1 "
                  "at /pytorch/aten/src/TH/generic/THTensor.cpp:689"),
    ("cat-sizes", "Sizes of tensors must match except in dimension 1. Got 14 and 15 in dimension 2 (The offending "
                  "index is 1)"),
    ("einsum-sizes", "einsum() operands do not broadcast with remapped shapes [original->remapped]: [12, 8192, "
                     "2]->[12, 1, 2, 8192] [12, 8192, 2]->[1, 8192, 2, 12]"),
    ("einsum-sizes", "einsum(): operands do not broadcast with remapped shapes [original->remapped]: [2, 3]->[2, 1, "
                     "3] [4, 5]->[1, 5, 4]"),
    ("einsum-sizes", "size of dimension does not match previous size, operand 1, dim 1"),
    ("axis-range", "dimension out of range (expected to be in range of [-1, 0], but got 1)"),
    ("axis-range", "dim out of range - got 1 but the tensor is only 1D"),
    ("same-dtype", "mat1 and mat2 must have the same dtype"),
    ("same-dtype", "mat1 and mat2 must have the same dtype, but got Half and Float"),
    ("same-dtype", "Input type (double) and bias type (float) should be the same"),
    ("same-dtype", "Input type (torch.cuda.DoubleTensor) and weight type (torch.cuda.FloatTensor) should be the same"),
    ("same-dtype", "Input type (c10::Half) and bias type (float) should be the same"),
    ("found-dtype", "expected scalar type Long but found Int"),
    ("found-dtype", "Expected object of scalar type Float but got scalar type Double for argument #2 'mat2' in call "
                    "to _th_mm"),
    ("found-dtype", "Expected object of scalar type Long but got scalar type Float for argument #2 'target' in call "
                    "to _thnn_nll_loss_forward"),
    ("found-dtype", "expected device cpu and dtype Float but got device cpu and dtype Double"),
    ("found-dtype", "Found dtype Double but expected Float"),
    ("devices", "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! (when "
                "checking argument for argument mat1 in method wrapper_addmm)"),
    ("devices", "Expected all tensors to be on the same device, but got mat2 is on cpu, different from other tensors "
                "on cuda:0 (when checking argument in method wrapper_CUDA_mm)"),
    ("devices", "Expected object of backend CPU but got backend CUDA for argument #4 'mat1'"),
    ("devices", "Expected object of device type cuda but got device type cpu for argument #1 'self' in call to "
                "_th_addmm"),
    ("devices", "Expected object of type torch.FloatTensor but found type torch.cuda.FloatTensor for argument #2 'mat2'"),
    ("same-dtype", "Input type (torch.cuda.FloatTensor) and weight type (torch.FloatTensor) should be the same"),
    ("devices", "Tensor for argument #2 'mat1' is on CPU, but expected it to be on GPU (while checking arguments for "
                "addmm)"),
    ("devices", "indices should be either on cpu or on the same device as the indexed tensor (cpu)"),
    ("ambiguous-truth", "bool value of Tensor with more than one value is ambiguous"),
    ("one-element", "only one element tensors can be converted to Python scalars"),
    ("index-dtype", "tensors used as indices must be long, byte or bool tensors"),
    ("lookup-range", "index out of range: Tried to access index 30522 out of table with 30521 rows. at "
                     "/pytorch/aten/src/TH/generic/THTensorEvenMoreMath.cpp:237"),
    ("target-range", "Assertion `cur_target >= 0 && cur_target < n_classes' failed.  at "
                     "/pytorch/aten/src/THNN/generic/ClassNLLCriterion.c:93"),
    ("target-range", "../aten/src/ATen/native/cuda/Loss.cu:250: nll_loss_forward_reduce_cuda_kernel_2d: block: "
                     "[0,0,0], thread: [4,0,0] Assertion `t >= 0 && t < n_classes` failed."),
    ("conv-channels", "Given groups=1, weight[64, 3, 7, 7], so expected input[1, 1, 224, 224] to have 3 channels, but "
                      "got 1 channels instead"),
    ("conv-depth", "Expected 4-dimensional input for 4-dimensional weight [64, 3, 7, 7], but got 3-dimensional input "
                   "of size [3, 224, 224] instead"),
    ("cpu-memory", "$ Torch: not enough memory: you tried to allocate 7GB. Buy new RAM! at "
                   "/pytorch/aten/src/TH/THGeneral.cpp:201"),
    ("cpu-memory", "[enforce fail at ..\\c10\\core\\CPUAllocator.cpp:72] data. DefaultCPUAllocator: not enough "
                   "memory: you tried to allocate 8294400 bytes."),
    ("accelerator-memory", "CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 8.00 GiB total capacity; 5.91 GiB "
                           "already allocated; 1.22 GiB free; 6.05 GiB reserved in total by PyTorch)"),
    ("accelerator-memory", "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 15.77 GiB "
                           "of which 1.38 MiB is free."),
    ("accelerator-memory", "MPS backend out of memory (MPS allocated: 8.90 GB, other allocations: 5.44 MB, max "
                           "allowed: 9.07 GB). Tried to allocate 256.00 MB on private pool."),
    ("device-assert", "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported "
                      "at some other API call"),
    ("vmap-item", "vmap: It looks like you're either (1) calling .item() on a Tensor or (2) attempting to use a "
                  "Tensor in some data-dependent control flow or (3) encountering this error in PyTorch internals."),
    ("batching-rule", "Batching rule not implemented for aten::linalg_eig; the fallback path doesn't work on out= or "
                      "view ops."),
    ("setup-context", "We do not yet have support for functorch transforms over autograd.Function. Please use "
                      "something else"),
    ("numpy-device", "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host "
                     "memory first."),
    ("numpy-device", "can't convert CUDA tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."),
    ("unused-parameters", "Expected to have finished reduction in the prior iteration before starting a new one. This "
                          "error indicates that your module has parameters that were not used in producing loss."),
    ("gradient-strides", "Grad strides do not match bucket view strides. This may indicate grad was not created "
                         "according to the gradient layout contract, or that the param's strides changed since DDP "
                         "was constructed. grad.sizes() = [64, 128, 1, 1], strides() = [128, 1, 1, 1]"),
    ("gradient-shape", "Function MulBackward0 returned an invalid gradient at index 0 - expected type "
                       "torch.cuda.FloatTensor but got torch.FloatTensor"),
    ("gradient-shape", "Function AddBackward0 returned an invalid gradient at index 1 - got [4] but expected shape "
                       "compatible with [4, 4]"),
    ("scalar-conversion", "Converting a tensor with requires_grad=True to a scalar may lead to unexpected "
                          "behavior.\nConsider using tensor.detach() first."),
    ("deepcopy", "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the "
                 "moment"),
    ("broadcast-argument", "Attempting to broadcast a dimension of length 4 at -1! Mismatching argument at index 1 "
                           "had torch.Size([4]); but expected shape should be broadcastable to [3]"),
    ("checkpoint-metadata", "torch.utils.checkpoint: Recomputed values for the following tensors have different "
                            "metadata than during the forward pass.\ntensor at position 3:"),
    ("gradient-shape", "Function MulBackward returned an invalid gradient at index 0 - expected shape [4] but got [3]"),
    ("accelerator-memory", "Allocation on device 0 would exceed allowed memory. (out of memory)"),
    ("devices", "Expected a 'cuda' device type for generator but found 'cpu'"),
    ("class-target-size", "Expected target size [2, 4], got [2, 5]"),
]  # fmt: skip
"""(entry, message)."""
