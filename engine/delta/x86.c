#include "delta/x86.h"

#include <stdbool.h>

/* What follows an opcode. The low bits: bytes of an immediate; Z: 4 bytes, 2 after a 66 prefix. */
enum {
    I1 = 1,
    I2 = 2,
    I3 = 3,
    I8 = 8,
    Z = 0x10,
    M = 0x20,   /* ModRM */
    PRE = 0x40, /* a prefix */
    BAD = 0x80, /* not in 64-bit mode */
    MI = M | I1,
    MZ = M | Z,
};

#define ALU(last) M, M, M, M, I1, Z, last

/* clang-format off */
static const unsigned char one_byte[256] = {
    /* 00 */ ALU(BAD), BAD, ALU(BAD), BAD,
    /* 10 */ ALU(BAD), BAD, ALU(BAD), BAD,
    /* 20 */ ALU(PRE), BAD, ALU(PRE), BAD,
    /* 30 */ ALU(PRE), BAD, ALU(PRE), BAD,
    /* 40 */ PRE, PRE, PRE, PRE, PRE, PRE, PRE, PRE, PRE, PRE, PRE, PRE, PRE, PRE, PRE, PRE,
    /* 50 */ 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    /* 60 */ BAD, BAD, BAD, M, PRE, PRE, PRE, PRE, Z, MZ, I1, MI, 0, 0, 0, 0,
    /* 70 */ I1, I1, I1, I1, I1, I1, I1, I1, I1, I1, I1, I1, I1, I1, I1, I1,
    /* 80 */ MI, MZ, BAD, MI, M, M, M, M, M, M, M, M, M, M, M, M,
    /* 90 */ 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, BAD, 0, 0, 0, 0, 0,
    /* a0 */ I8, I8, I8, I8, 0, 0, 0, 0, I1, Z, 0, 0, 0, 0, 0, 0,
    /* b0 */ I1, I1, I1, I1, I1, I1, I1, I1, Z, Z, Z, Z, Z, Z, Z, Z,
    /* c0 */ MI, MI, I2, 0, BAD, BAD, MI, MZ, I3, 0, I2, 0, 0, I1, BAD, 0,
    /* d0 */ M, M, M, M, BAD, BAD, BAD, 0, M, M, M, M, M, M, M, M,
    /* e0 */ I1, I1, I1, I1, I1, I1, I1, I1, BAD, BAD, BAD, I1, 0, 0, 0, 0,
    /* f0 */ PRE, 0, PRE, PRE, 0, 0, M, M, 0, 0, 0, 0, 0, 0, M, M,
};
/* clang-format on */

/* clang-format off */
static const unsigned char two_byte[256] = {
    /* 00 */ M, M, M, M, BAD, 0, 0, 0, 0, 0, BAD, 0, BAD, M, 0, MI,
    /* 10 */ M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,
    /* 20 */ M, M, M, M, BAD, BAD, BAD, BAD, M, M, M, M, M, M, M, M,
    /* 30 */ 0, 0, 0, 0, 0, 0, BAD, 0, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD,
    /* 40 */ M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,
    /* 50 */ M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,
    /* 60 */ M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,
    /* 70 */ MI, MI, MI, MI, M, M, M, 0, M, M, M, M, M, M, M, M,
    /* 80 */ BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD, BAD,
    /* 90 */ M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,
    /* a0 */ 0, 0, 0, M, MI, M, BAD, BAD, 0, 0, 0, M, MI, M, M, M,
    /* b0 */ M, M, M, M, M, M, M, M, M, M, MI, M, M, M, M, M,
    /* c0 */ M, M, MI, M, MI, MI, MI, M, 0, 0, 0, 0, 0, 0, 0, 0,
    /* d0 */ M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,
    /* e0 */ M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,
    /* f0 */ M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,
};
/* clang-format on */

static const struct x86_insn bad = { 1, 0 };

/* The ModRM byte stands at `at`, `immediate` bytes follow the operand. */
static struct x86_insn operand(const unsigned char *code, unsigned at, unsigned immediate)
{
    unsigned mod = code[at] >> 6, rm = code[at] & 7;
    struct x86_insn insn = { at + 1, 0 };

    if (mod != 3 && rm == 4) {
        insn.length++;
        if (mod == 0 && (code[at + 1] & 7) == 5)
            insn.length += 4;
    } else if (mod == 0 && rm == 5) {
        insn.field = insn.length;
        insn.length += 4;
    }
    insn.length += mod == 1 ? 1 : mod == 2 ? 4 : 0;
    insn.length += immediate;
    return insn;
}

static struct x86_insn relative(unsigned at)
{
    return (struct x86_insn){ at + 4, at };
}

/* VEX (c4, c5) and EVEX (62): the map is in the prefix, and there is always a ModRM byte. */
static struct x86_insn vector(const unsigned char *code, unsigned at)
{
    unsigned map = code[at] == 0xc5 ? 1 : code[at + 1] & (code[at] == 0x62 ? 7 : 31);
    unsigned opcode = at + (code[at] == 0xc5 ? 2 : code[at] == 0xc4 ? 3 : 4);
    unsigned immediate = map == 3 || (map == 1 && two_byte[code[opcode]] == MI);

    if (map == 0 || map > 6)
        return bad;
    if (map == 1 && code[opcode] == 0x77)
        return (struct x86_insn){ opcode + 1, 0 };
    return operand(code, opcode + 1, immediate);
}

static struct x86_insn escaped(const unsigned char *code, unsigned at)
{
    unsigned char op = code[at];

    if (op == 0x38)
        return operand(code, at + 2, 0);
    if (op == 0x3a)
        return operand(code, at + 2, 1);
    if (op >= 0x80 && op <= 0x8f)
        return relative(at + 1);
    if (two_byte[op] == BAD)
        return bad;
    if (two_byte[op] == 0)
        return (struct x86_insn){ at + 1, 0 };
    return operand(code, at + 1, two_byte[op] & I1);
}

struct x86_insn x86_decode(const unsigned char *code)
{
    bool wide = false, narrow = false;
    unsigned at = 0, immediate;
    unsigned char op = code[0], what = one_byte[op];

    while (what == PRE && at < 8) {
        wide = (op & 0xf8) == 0x48;
        narrow |= op == 0x66;
        op = code[++at];
        what = one_byte[op];
    }
    if (op == 0x0f)
        return escaped(code, at + 1);
    if (op == 0xe8 || op == 0xe9)
        return relative(at + 1);
    if (op == 0xc4 || op == 0xc5 || op == 0x62)
        return vector(code, at);
    if (what == BAD || what == PRE)
        return bad;
    immediate = what & 15;
    if (what & Z)
        immediate = wide && op >= 0xb8 && op <= 0xbf ? 8 : narrow ? 2 : 4;
    if ((op == 0xf6 || op == 0xf7) && (code[at + 1] & 0x38) < 0x10)
        immediate = op == 0xf6 ? 1 : narrow ? 2 : 4;
    if (what & M)
        return operand(code, at + 1, immediate);
    return (struct x86_insn){ at + 1 + immediate, 0 };
}
