#include "json_text.h"

#include <float.h>
#include <stdlib.h>

char *json_text(const json_t *value)
{
    for (int digits = DBL_DIG;; digits++) {
        char *text = json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION((size_t)digits));
        json_t *again = text && digits < DBL_DECIMAL_DIG ? json_loads(text, 0, NULL) : NULL;
        int is_same = json_equal(again, value);
        json_decref(again);
        if (!text || is_same || digits == DBL_DECIMAL_DIG)
            return text;
        free(text);
    }
}
