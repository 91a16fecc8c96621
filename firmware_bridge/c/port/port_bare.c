/* Programs on a Cortex-M that nobody lends files to. */
#include "port.h"

void start(void);

void start(void) {
    (void)program(0, 0);
    for (;;) {
    }
}
