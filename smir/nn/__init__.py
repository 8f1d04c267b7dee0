"""PyTorch layers made from specs. Importing it loads torch; `import smir` alone doesn't.

from smir.nn import Mixer
layer = Mixer("gated_delta_rule", d_model=256, heads=4)
y = layer(x)                                        # [B, T, 256] -> [B, T, 256]
"""

from smir.nn.mixer import Mixer

__all__ = ["Mixer"]
