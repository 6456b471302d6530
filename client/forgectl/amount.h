/* Amounts as people read them. */
#ifndef FORGECTL_AMOUNT_H
#define FORGECTL_AMOUNT_H

#include "forge/forge.h"

#include <stdint.h>

enum { AMOUNT_SIZE = 24 };

/* Three digits and a unit up to 100 seconds ("850 us", "1.23 s"), then two units ("2m05s", "3h20m", "4d01h"). At most 8 characters below
 * 10,000 days. */
void amount_duration(int64_t ns, char out[AMOUNT_SIZE]);
/* Dollars of micro-units, exactly: "$0.012300". */
void amount_cost(int64_t micros, char out[AMOUNT_SIZE]);
/* All kinds of tokens together; 0 without usage. */
int64_t amount_tokens(const Forge__V1__TokenUsage *usage);

#endif
