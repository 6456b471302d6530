#include "text/fold.h"

#include <unicode/uchar.h>

int32_t text_fold(int32_t code_point)
{
    return u_foldCase(code_point, U_FOLD_CASE_DEFAULT);
}
