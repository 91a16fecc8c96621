/* The front end around the network: sound to features, gains to sound. Constants are made by firmware_bridge/front_end.py. */
#ifndef ETSE_FRONT_H
#define ETSE_FRONT_H

#include <stdint.h>

#include "etse.h"

enum { ETSE_HALF = ETSE_WINDOW / 2 };

/* [WINDOW / 2] each; the factor from 16-bit sound to +-1, the lift and a half of the real transform are in them */
extern const float etse_window_even[];
extern const float etse_window_odd[];
/* [SYNTHESIS]; the factors of the inverse transform, of the lift of the gains and to 16-bit sound are in it */
extern const float etse_synthesis_window[];
/* as in front_math.h */
extern const float etse_twiddles[];
extern const float etse_split_factors[];
/* [BANDS + 1] */
extern const uint16_t etse_band_edges[];

/* Complex transform of ETSE_HALF points of (re, im), in which (re2, im2), as long, take part.
 * Returns where the result is: 0 in the first pair, 1 in the second. */
int etse_fft(float *re, float *im, float *re2, float *im2);

#endif
