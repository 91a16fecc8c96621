from typing import final

import numpy as np
from numpy.typing import NDArray

@final
class Stream:
    def __new__(
        cls,
        ears: int,
        hop: int,
        window: int,
        bands: int,
        spatial_bands: int,
        beam: bool,
        level_invariant: bool,
        lifted_window: NDArray[np.float32],
        lowering_window: NDArray[np.float32],
        twiddles: NDArray[np.float32],
        split: NDArray[np.float32],
        edges: NDArray[np.uint16],
        reals: NDArray[np.float32],
        zero_points: NDArray[np.int32],
        /,
    ) -> Stream: ...
    def analyze(self, hop: NDArray[np.float32], features: NDArray[np.int8], /) -> None: ...
    def synthesize(self, *moves_and_out: NDArray[np.int8] | NDArray[np.float32]) -> None: ...
    def reset(self) -> None: ...
