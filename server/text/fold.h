/* Case folding of everything that is compared without regard to case: words that are searched for, outputs that are judged. Any thread. */
#ifndef SERVER_TEXT_FOLD_H
#define SERVER_TEXT_FOLD_H

#include <stdint.h>

/* Simple case folding of ICU (Unicode 15 in Debian 12): statuses C and S of CaseFolding.txt, no locale, one code point for one code point.
 */
int32_t text_fold(int32_t code_point);

#endif
