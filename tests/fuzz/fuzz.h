/* fuzz.h - a fuzz target is a file tests/fuzz/fuzz_<target>.c that defines this one function; its
 * inputs lie in tests/fuzz/corpus/<target>/. Old crashes are kept there.
 *
 * `make check` runs the corpus and mutations of it (replay.c); `make fuzz-run TARGET=<target>`
 * searches with libFuzzer. */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Feeds bytes from outside to a parser, which must neither crash nor hang nor leak. data may be
 * NULL if size is 0. Returns 0. A broken promise (a round trip that differs) is an abort(). */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A target whose inputs take long may define this: mutations of each file in `make check`. */
extern const long fuzz_mutations __attribute__((weak));

#endif
