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
    const char *suffixes; /* of names, without the dot */
};

/* More than one line that fits: the first is taken. Media are made of compressed data; nobody would
 * deploy them otherwise. */
static const struct magic MAGICS[] = {
    { 0, "\x1f\x8b", 2, { "gzip", UNCOMPRESSED }, "gz tgz svgz" },
    { 0, "\xfd\x37zXZ\0", 6, { "xz", UNCOMPRESSED }, "xz txz" },
    { 0, "\x28\xb5\x2f\xfd", 4, { "zstd", UNCOMPRESSED }, "zst tzst" },
    { 0, "BZh", 3, { "bzip2", UNCOMPRESSED }, "bz2 tbz" },
    { 0, "\x04\x22\x4d\x18", 4, { "lz4", UNCOMPRESSED }, "lz4" },
    { 0, "LZIP", 4, { "lzip", UNCOMPRESSED }, "lz" },
    { 0, "\x89LZO", 4, { "lzop", UNCOMPRESSED }, NULL },
    { 0, "\x1f\x9d", 2, { "compress", UNCOMPRESSED }, NULL },
    { 0, "\x5d\0\0\x80\0", 5, { "lzma", UNCOMPRESSED }, "lzma" },
    { 0, "PK\x03\x04", 4, { "a zip archive", MEMBERS }, "zip jar war apk aar whl egg nupkg" },
    { 0, "7z\xbc\xaf\x27\x1c", 6, { "a 7z archive", FILES }, "7z" },
    { 0, "Rar!\x1a\x07", 6, { "a rar archive", FILES }, "rar" },
    { 0, "MSCF", 4, { "a cabinet", FILES }, "cab" },
    { 0, "!<arch>\ndebian-binary", 21, { "a Debian package", FILES }, "deb" },
    { 0, "\xed\xab\xee\xdb", 4, { "an RPM package", FILES }, "rpm" },
    { 0, "hsqs", 4, { "squashfs", FILES }, "squashfs snap" },
    { 0, "PACK\0\0\0", 7, { "a git pack", NULL }, NULL },
    { 8, "AI\x02", 3, { "an AppImage", FILES }, "AppImage" },
    { 0x202, "HdrS", 4, { "a compressed kernel", NULL }, NULL },
    { 0, "\x89PNG\r\n\x1a\n", 8, { "a PNG image", NULL }, "png" },
    { 0, "\xff\xd8\xff", 3, { "a JPEG image", NULL }, "jpg jpeg" },
    { 0, "GIF8", 4, { "a GIF image", NULL }, "gif" },
    { 8, "WEBP", 4, { "a WebP image", NULL }, "webp" },
    { 4, "ftypavif", 8, { "an AVIF image", NULL }, "avif" },
    { 4, "ftyphei", 7, { "a HEIF image", NULL }, NULL },
    { 4, "ftyp", 4, { "an MP4 file", NULL }, "mp4 m4a mov" },
    { 0, "\x1a\x45\xdf\xa3", 4, { "a Matroska file", NULL }, "webm mkv" },
    { 0, "OggS", 4, { "an Ogg file", NULL }, "ogg" },
    { 0, "fLaC", 4, { "a FLAC file", NULL }, "flac" },
    { 0, "ID3", 3, { "an MP3 file", NULL }, "mp3" },
    { 0, "wOFF", 4, { "a WOFF font", NULL }, "woff" },
    { 0, "wOF2", 4, { "a WOFF2 font", NULL }, "woff2" },
    { 0, "%PDF-", 5, { "a PDF file", NULL }, "pdf" },
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

static bool has_word(const char *words, const char *word, size_t len)
{
    while (words != NULL && *words != '\0') {
        size_t n = strcspn(words, " ");

        if (n == len && memcmp(words, word, len) == 0)
            return true;
        words += n + (words[n] == ' ');
    }
    return false;
}

const struct packed *packed_by_name(const char *path)
{
    const char *dot = strrchr(path, '.');

    for (size_t i = 0; dot != NULL && i < COUNT_OF(MAGICS); i++) {
        if (has_word(MAGICS[i].suffixes, dot + 1, strlen(dot + 1)))
            return &MAGICS[i].kind;
    }
    return NULL;
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

bool packed_announces(const struct packed *kind)
{
    return kind != &DENSE;
}

int packed_find(const struct delta_files *files, size_t entry, uint64_t size,
                const struct packed **ret)
{
    unsigned char head[PACKED_HEAD];
    size_t n = size < sizeof(head) ? (size_t)size : sizeof(head);
    struct err err = ERR_INIT;

    *ret = NULL;
    if (files->read(files->ctx, entry, head, n, 0, &err) < 0)
        return -(int)err.code;
    *ret = packed_kind(head, n);
    if (*ret == NULL && is_dense(files, entry, size))
        *ret = &DENSE;
    return 0;
}
