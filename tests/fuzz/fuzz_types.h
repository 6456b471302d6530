/* Chooses a request or reply type of the contract by the first two bytes of the input (big-endian, modulo their number). */
#ifndef FUZZ_TYPES_H
#define FUZZ_TYPES_H

#include "fuzz.h"

#include "method.h"

static inline const ProtobufCMessageDescriptor *fuzz_choose_type(const uint8_t *data)
{
    static struct method_list list;
    if (list.count == 0)
        FUZZ_REQUIRE(method_list_collect(&list));
    size_t number = ((size_t)data[0] << 8 | data[1]) % (2 * list.count);
    const ProtobufCMethodDescriptor *method = list.methods[number / 2].descriptor;
    return number % 2 == 0 ? method->input : method->output;
}

#endif
