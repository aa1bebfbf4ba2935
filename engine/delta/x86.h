/* x86.h - where the instructions of x86-64 code end, and which of their bytes are an address.
 *
 * Relinking moves functions, and every relative address in them changes with no change of meaning.
 * To find those fields one needs instruction lengths and no more: this is a length decoder, not a
 * disassembler. Its tables follow the opcode maps of the architecture manuals (AMD64 APM vol. 3,
 * appendix A). It may err on data between functions; it finds the beat again within a few
 * instructions, and as encoder and decoder of a delta err alike, an error only costs bytes.
 *
 * Pure; no memory. */
#ifndef DELTA_X86_H
#define DELTA_X86_H

#include <stddef.h>
#include <stdint.h>

enum { X86_LONGEST = 15 };

struct x86_insn {
    unsigned length; /* 1..X86_LONGEST; what cannot be an instruction is one of length 1 */
    unsigned field;  /* offset of a 4-byte address relative to the instruction's end; 0: none */
};

/* Decodes at code; the bytes up to code[X86_LONGEST + 8] must be readable. */
struct x86_insn x86_decode(const unsigned char *code);

#endif
