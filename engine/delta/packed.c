#include "delta/packed.h"

#include <string.h>

#include "base/mem.h"

#define UNCOMPRESSED "deploy it uncompressed"
#define MEMBERS "store its members uncompressed (zip -0)"
#define FILES "deploy the files that are in it"

struct magic {
    size_t at;
    const char *bytes;
    size_t len;
    struct packed kind;
};

/* More than one line that fits: the first is taken. Media are made of compressed data; nobody would
 * deploy them otherwise. */
static const struct magic MAGICS[] = {
    { 0, "\x1f\x8b", 2, { "gzip", UNCOMPRESSED } },
    { 0, "\xfd\x37zXZ\0", 6, { "xz", UNCOMPRESSED } },
    { 0, "\x28\xb5\x2f\xfd", 4, { "zstd", UNCOMPRESSED } },
    { 0, "BZh", 3, { "bzip2", UNCOMPRESSED } },
    { 0, "\x04\x22\x4d\x18", 4, { "lz4", UNCOMPRESSED } },
    { 0, "LZIP", 4, { "lzip", UNCOMPRESSED } },
    { 0, "\x89LZO", 4, { "lzop", UNCOMPRESSED } },
    { 0, "\x1f\x9d", 2, { "compress", UNCOMPRESSED } },
    { 0, "\x5d\0\0\x80\0", 5, { "lzma", UNCOMPRESSED } },
    { 0, "PK\x03\x04", 4, { "a zip archive", MEMBERS } },
    { 0, "7z\xbc\xaf\x27\x1c", 6, { "a 7z archive", FILES } },
    { 0, "Rar!\x1a\x07", 6, { "a rar archive", FILES } },
    { 0, "MSCF", 4, { "a cabinet", FILES } },
    { 0, "!<arch>\ndebian-binary", 21, { "a Debian package", FILES } },
    { 0, "\xed\xab\xee\xdb", 4, { "an RPM package", FILES } },
    { 0, "hsqs", 4, { "squashfs", FILES } },
    { 0, "PACK\0\0\0", 7, { "a git pack", NULL } },
    { 8, "AI\x02", 3, { "an AppImage", FILES } },
    { 0x202, "HdrS", 4, { "a compressed kernel", NULL } },
    { 0, "\x89PNG\r\n\x1a\n", 8, { "a PNG image", NULL } },
    { 0, "\xff\xd8\xff", 3, { "a JPEG image", NULL } },
    { 0, "GIF8", 4, { "a GIF image", NULL } },
    { 8, "WEBP", 4, { "a WebP image", NULL } },
    { 4, "ftypavif", 8, { "an AVIF image", NULL } },
    { 4, "ftyphei", 7, { "a HEIF image", NULL } },
    { 4, "ftyp", 4, { "an MP4 file", NULL } },
    { 0, "\x1a\x45\xdf\xa3", 4, { "a Matroska file", NULL } },
    { 0, "OggS", 4, { "an Ogg file", NULL } },
    { 0, "fLaC", 4, { "a FLAC file", NULL } },
    { 0, "ID3", 3, { "an MP3 file", NULL } },
    { 0, "wOFF", 4, { "a WOFF font", NULL } },
    { 0, "wOF2", 4, { "a WOFF2 font", NULL } },
    { 0, "%PDF-", 5, { "a PDF file", NULL } },
};

static const struct packed UPX = { "packed by UPX", "deploy it unpacked (upx -d)" };

static const struct packed DENSE = { "compressed or encrypted data", NULL };

static bool has(const unsigned char *data, size_t len, const char *text, size_t n)
{
    for (size_t i = 0; i + n <= len; i++) {
        if (data[i] == (unsigned char)text[0] && memcmp(data + i, text, n) == 0)
            return true;
    }
    return false;
}

/* ELF or PE, with UPX's header behind theirs. */
static bool is_upx(const unsigned char *head, size_t len)
{
    bool program = len >= 4 && (memcmp(head, "\177ELF", 4) == 0 || memcmp(head, "MZ", 2) == 0);

    return program && has(head, len, "UPX!", 4);
}

const struct packed *packed_kind(const void *data, size_t len)
{
    const unsigned char *head = data;

    for (size_t i = 0; i < COUNT_OF(MAGICS); i++) {
        const struct magic *m = &MAGICS[i];

        if (m->at + m->len <= len && memcmp(head + m->at, m->bytes, m->len) == 0)
            return &m->kind;
    }
    return is_upx(head, len) ? &UPX : NULL;
}

/* Of n evenly spread bytes, about n (n - 1) / 256 pairs (counted both ways) are equal; text and code
 * have several times as many. */
bool packed_is_dense(const void *data, size_t len)
{
    const unsigned char *b = data;
    uint64_t counts[256] = { 0 }, equal = 0;

    if (len < PACKED_SAMPLE / 4)
        return false;
    for (size_t i = 0; i < len; i++)
        counts[b[i]]++;
    for (size_t i = 0; i < 256; i++)
        equal += counts[i] * (counts[i] - (counts[i] > 0));
    return equal * 256 <= (uint64_t)len * (len - 1) * 5 / 4;
}

/* Three of four samples, all over the file. */
static bool is_dense(const struct delta_files *files, size_t entry, uint64_t size)
{
    unsigned char sample[PACKED_SAMPLE];
    size_t dense = 0;

    for (size_t i = 0; i < PACKED_SAMPLES; i++) {
        uint64_t at = size / PACKED_SAMPLES * i;
        size_t n = size - at < sizeof(sample) ? (size_t)(size - at) : sizeof(sample);

        if (files->read(files->ctx, entry, sample, n, at, NULL) < 0)
            return false;
        dense += packed_is_dense(sample, n);
    }
    return dense * 4 >= PACKED_SAMPLES * 3;
}

const struct packed *packed_find(const struct delta_files *files, size_t entry, uint64_t size)
{
    unsigned char head[PACKED_HEAD];
    size_t n = size < sizeof(head) ? (size_t)size : sizeof(head);
    const struct packed *kind;

    if (files->read(files->ctx, entry, head, n, 0, NULL) < 0)
        return NULL;
    kind = packed_kind(head, n);
    return kind != NULL ? kind : is_dense(files, entry, size) ? &DENSE : NULL;
}
