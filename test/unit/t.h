/* test/unit/t.h - what cmocka wants included, in its order. */
#ifndef TEST_UNIT_T_H
#define TEST_UNIT_T_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
