/* elf.h - what a delta needs to know about an ELF file: where it will lie in memory, and where its
 * tables of addresses are.
 *
 * Everything is checked against the size of the file; what does not look like a 64-bit little-endian
 * ELF file that we understand is no error, only not predicted. Sources: the System V ABI (gABI and
 * its AMD64 supplement), and the LSB for .eh_frame and .eh_frame_hdr. */
#ifndef DELTA_ELF_H
#define DELTA_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { ELF_LOADS_MAX = 12, ELF_X86_64 = 62, ELF_AARCH64 = 183 };

struct elf_load {
    uint64_t offset, address, file_bytes, memory_bytes;
    bool code;
};

struct elf_range {
    uint64_t from, to; /* file offsets */
};

struct elf {
    unsigned machine; /* ELF_X86_64, ELF_AARCH64; 0: not an ELF file that we know */
    bool fixed;       /* linked to a fixed address (not PIE, no library) */
    struct elf_load loads[ELF_LOADS_MAX];
    size_t nloads;
    struct elf_range rela;   /* records of 24 bytes */
    struct elf_range eh_hdr; /* with its 12 bytes of header */
    struct elf_range eh;     /* .eh_frame */
};

/* Reads len bytes at offset of the file, or fails. */
typedef int (*elf_read)(void *ctx, void *data, size_t len, uint64_t offset, struct err *err);

/* Fails only as read does. */
MUST_CHECK int elf_parse(struct elf *ret, uint64_t file_bytes, elf_read read, void *ctx,
                         struct err *err);

/* File offset to address; false if it is not loaded. */
bool elf_address(const struct elf *e, uint64_t offset, uint64_t *ret);
/* And back. An address behind a load's bytes (.bss) gives offset + what it is behind them, with
 * *ret_load; compare with file_bytes. */
bool elf_offset(const struct elf *e, uint64_t address, uint64_t *ret, size_t *ret_load);

#endif
