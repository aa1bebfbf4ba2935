/* sites.h - which bytes of an ELF file are addresses, and of what kind.
 *
 *     sites_open(&f, size, read, ctx, err)
 *     sites_scan(f, bytes, offset, lead, len, &list)    any stretch of the file
 *     sites_close(f)
 *
 * The scan sees the file's bytes and nothing else, so whoever has the file finds the same fields.
 * That code begins in the middle of a stretch is no harm: `lead` bytes before it are looked at, to
 * find the beat of the instructions.
 *
 * Words are every aligned group of 4 bytes outside of code and tables. They are given on demand: the
 * tables that compilers and linkers write for themselves (Go's pclntab, jump tables) change by the
 * same distances all along. */
#ifndef DELTA_SITES_H
#define DELTA_SITES_H

#include "delta/elf.h"

enum site_kind {
    SITE_NONE = 0,
    SITE_CODE,        /* x86-64: 4 bytes, relative to site + tail */
    SITE_BRANCH,      /* aarch64: as in arm64.h; 4 bytes, */
    SITE_PAGE,        /* 4 bytes, */
    SITE_PAIR,        /* 8 bytes */
    SITE_FRAME,       /* 4 bytes in .eh_frame, relative to the site itself */
    SITE_FRAME_TABLE, /* 4 bytes in .eh_frame_hdr, relative to its start */
    SITE_POINTER,     /* 8 bytes, an address (only where the file is linked to a fixed one) */
    SITE_PLACE,       /* 8 bytes: r_offset of a relocation record */
    SITE_ADDEND,      /* 8 bytes: r_addend of it */
    SITE_WORD,        /* 4 bytes of data that are no address, but perhaps an offset */
    SITE_KINDS,
};

enum { SITES_LEAD = 64, SITES_PAD = 32 };

struct site {
    uint32_t at; /* offset in the stretch, lead not counted */
    uint8_t kind, width, tail;
};

struct site_list {
    struct site *items;
    size_t count, cap;
};

struct sites;

/* Reads the headers, and the frames' lengths. */
MUST_CHECK int sites_open(struct sites **ret, uint64_t file_bytes, elf_read read, void *ctx,
                          struct err *err);
void sites_close(struct sites *f);
const struct elf *sites_elf(const struct sites *f);

/* The fields of file[offset, offset + len), ascending, each whole inside. data: from offset - lead
 * on; SITES_PAD bytes behind it must be readable (their value does not matter). words: also
 * SITE_WORD. Replaces out's items. */
void sites_scan(const struct sites *f, const unsigned char *data, uint64_t offset, size_t lead,
                size_t len, bool words, struct site_list *out);

/* The address that a site means; false if it is outside of what is loaded. data: the site's bytes;
 * offset: where they are in the file e. */
bool site_target(const struct elf *e, const struct site *site, const unsigned char *data,
                 uint64_t offset, uint64_t *ret);
/* The bytes (little-endian) of a site like this one that means target, at `offset` of e. */
uint64_t site_value(const struct elf *e, const struct site *site, const unsigned char *data,
                    uint64_t offset, uint64_t target);
/* The same, but independent of where it is: two sites that mean the same are equal. */
uint64_t site_image(const struct site *site, const unsigned char *data, uint64_t target);

/* Blanks the fields of a stretch, so that what only moved compares equal. Records of relocations
 * keep the distance from the record before. data: as for a scan; the lead is left alone. */
void sites_blank(const struct sites *f, unsigned char *data, uint64_t offset, size_t lead,
                 size_t len);

#endif
