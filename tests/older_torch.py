"""What torch 2.6, the oldest, does otherwise than the tests have it (Python 3.10 where it says so): parts of ids, and why."""

TORCH_2_6 = {
    "(torch.fft.ifft(((torch.fft.fft(x)).conj()))).sum()-False": "torch itself raises: MKL refuses the strides",
    "[F.elu(x, alpha=2.0) --x 0,1]": "elu takes exp(x) - 1, and the differences across zero meet its rounding",
    "-torch.atan2(a, b)-": "torch's gradient of atan2 at (0, 0) is NaN, and 0 later",
    "test_check_operators.py::test_no_alarm_but_the_true_ones[float32]": "a singular det's gradient is right in float64 alone",
    "test_attacks_end_in_a_limit[F.pad(x.reshape": "torch itself refuses the padding",
    "test_attacks_end_in_a_limit[torch.constant_pad_nd(": "torch itself refuses the padding",
    "[NarrowCopy]": "narrow_copy has no derivative",
    "test_which_operations_take_cotangents_one_by_one": "one of them is narrow_copy, which has no derivative",
    "test_which_functions_keep_samples_apart": "the graph of a recurrent network has its first weight elsewhere",
    "test_what_pytorch_raises_is_explained[unused-input-12]": "the message does not name the input's number",
    "test_what_pytorch_raises_is_explained[unused-input-13]": "the message does not name the input's number",
    "test_deep_and_huge_is_an_error_and_no_crash[x.T.T.T.T.T.": "Python 3.10 reads a chain of attributes of any length",
    "test_what_has_no_numbers_or_no_tensor_is_let_be": "torch.autograd.backward takes no edges of a graph",
    "test_a_checkpointed_module_in_every_answer": "where a trace opens a checkpoint, torch keeps others than where it runs again",
    "test_what_cannot_be_known_is_watched_each_time[<lambda>]": "400 functions in each other are not too deep there",
    "test_numbers_too_small_for_a_formula_cut_no_graph": "torch's gradient of atan2 at 1e-200 is infinite, and 0 later",
    "test_a_function_s_end_close_by_is_no_kink[<lambda>-1e-160]": "the differences come out as 0 there, beyond what is let pass",
    "_stays_within_its_budget": "each detach counts twice: a call that it makes itself does, too",
}
