/* Caches of Cortex-M7 and Cortex-M55. */
#ifndef ETSE_CACHES_H
#define ETSE_CACHES_H

/* Turn them on, once after reset and before anything is in them that counts. */
void etse_enable_caches(void);

#endif
