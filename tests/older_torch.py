"""What an older torch does otherwise than the tests have it: which tests fail with it, by a part of their ids, and why."""

TORCH_2_6 = {
    "(torch.fft.ifft(((torch.fft.fft(x)).conj()))).sum()-False": "torch itself raises: MKL refuses the strides",
    "[F.elu(x, alpha=2.0) --x 0,1]": "elu takes exp(x) - 1, and the differences across zero meet its rounding",
    "-torch.atan2(a, b)-": "torch's gradient of atan2 at (0, 0) is NaN, and 0 later",
    "test_check_operators.py::test_no_alarm_but_the_true_ones[float32]": "torch's gradient of a singular det is right in float64 alone",
}
