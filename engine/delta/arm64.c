#include "delta/arm64.h"

static uint32_t word(const unsigned char *b)
{
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

/* Takes the low `bits` of v as a signed number. */
static uint64_t extend(uint64_t v, unsigned bits)
{
    uint64_t sign = (uint64_t)1 << (bits - 1);

    v &= (sign << 1) - 1;
    return (v ^ sign) - sign;
}

/* By how much a load or store multiplies its 12 bits; ADD does not. */
static unsigned scale(uint32_t insn)
{
    if ((insn & 0xffc00000) == 0x91000000)
        return 0;
    return (insn & 0x04800000) == 0x04800000 ? 4 : insn >> 30;
}

enum arm64_form arm64_form(const unsigned char *code, size_t left)
{
    uint32_t insn = word(code), next;

    if ((insn & 0x7c000000) == 0x14000000)
        return ARM64_BRANCH;
    if ((insn & 0x9f000000) != 0x90000000)
        return ARM64_NONE;
    if (left < 8)
        return ARM64_PAGE;
    next = word(code + 4);
    if (((next & 0xffc00000) == 0x91000000 || (next & 0x3b000000) == 0x39000000) &&
        (next >> 5 & 31) == (insn & 31))
        return ARM64_PAIR;
    return ARM64_PAGE;
}

uint64_t arm64_target(enum arm64_form form, const unsigned char *code, uint64_t address)
{
    uint32_t insn = word(code), next;
    uint64_t page;

    if (form == ARM64_BRANCH)
        return address + extend(insn, 26) * 4;
    page = (address & ~(uint64_t)0xfff) +
           extend((insn >> 29 & 3) | (insn >> 5 & 0x7ffff) << 2, 21) * 4096;
    if (form != ARM64_PAIR)
        return page;
    next = word(code + 4);
    return page + ((uint64_t)(next >> 10 & 0xfff) << scale(next));
}

uint64_t arm64_insn(enum arm64_form form, const unsigned char *code, uint64_t address,
                    uint64_t target)
{
    uint32_t insn = word(code), next, pages;

    if (form == ARM64_BRANCH)
        return (insn & 0xfc000000) | ((target - address) >> 2 & 0x3ffffff);
    pages = (uint32_t)((target >> 12) - (address >> 12));
    insn = (insn & 0x9f00001f) | (pages & 3) << 29 | (pages >> 2 & 0x7ffff) << 5;
    if (form != ARM64_PAIR)
        return insn;
    next = word(code + 4);
    next = (next & 0xffc003ff) | (uint32_t)((target & 0xfff) >> scale(next)) << 10;
    return insn | (uint64_t)next << 32;
}
