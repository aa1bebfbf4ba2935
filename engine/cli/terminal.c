#include "cli/terminal.h"

#include <stdbool.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

static bool is_color(const char *text, size_t len)
{
    size_t i = 2;

    if (len < 3 || text[0] != '\033' || text[1] != '[')
        return false;
    while (i < len && strchr("0123456789;", text[i]) != NULL && text[i] != '\0')
        i++;
    return i < len && text[i] == 'm';
}

/* U+0080 to U+009F, which some terminals obey too. */
static bool is_c1(const unsigned char *at, size_t len)
{
    return len >= 2 && at[0] == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0;
}

void terminal_tame(char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char *at = (unsigned char *)text + i;
        bool control = (*at < 0x20 && *at != '\n' && *at != '\t') || *at == 0x7f;

        if (is_c1(at, len - i))
            at[0] = at[1] = '?';
        else if (control && !is_color(text + i, len - i))
            *at = '?';
    }
}

void terminal_tame_json(json_t *value)
{
    const char *key;
    json_t *item;
    size_t i;

    if (json_is_string(value)) {
        size_t len = json_string_length(value);
        AUTO_FREE char *text = mem_strndup(json_string_value(value), len);

        terminal_tame(text, len);
        (void)json_string_setn_nocheck(value, text, len);
    }
    json_array_foreach(value, i, item) terminal_tame_json(item);
    json_object_foreach(value, key, item) terminal_tame_json(item);
}
