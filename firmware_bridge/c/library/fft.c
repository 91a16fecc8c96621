/* The transform of front_math.h at the length of this model. */
#include "front.h"
#include "front_math.h"

int etse_fft(float *re, float *im, float *re2, float *im2) { return etse_fft_stages(ETSE_HALF, etse_twiddles, re, im, re2, im2); }
