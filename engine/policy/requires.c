#include "policy/requires.h"

#include <ctype.h>
#include <string.h>

void requires_init(struct requires *r, const char *text, size_t len)
{
    r->at = text;
    r->end = text + len;
    r->line = 1;
    r->last = 0;
}

static char peek(const struct requires *r, size_t ahead)
{
    return (size_t)(r->end - r->at) > ahead ? r->at[ahead] : 0;
}

static void step(struct requires *r)
{
    if (*r->at == '\n')
        r->line++;
    r->at++;
}

/* If at stands on "[[" or "[==[", skips to behind its end. */
static bool skip_long(struct requires *r)
{
    size_t level = 1;
    while (peek(r, level) == '=')
        level++;
    if (peek(r, 0) != '[' || peek(r, level) != '[')
        return false;
    level--;
    for (r->at += level + 2; r->at < r->end; step(r)) {
        if (*r->at != ']')
            continue;
        size_t n = 1;
        while (peek(r, n) == '=')
            n++;
        if (n - 1 == level && peek(r, n) == ']') {
            r->at += n + 1;
            return true;
        }
    }
    return true;
}

static void skip_comment(struct requires *r)
{
    r->at += 2;
    if (skip_long(r))
        return;
    while (r->at < r->end && *r->at != '\n')
        r->at++;
}

/* At stands on a quote; the text goes to out, cut to size. */
static void read_quoted(struct requires *r, char *out, size_t size)
{
    char quote = *r->at++;
    size_t n = 0;
    while (r->at < r->end && *r->at != quote && *r->at != '\n') {
        if (*r->at == '\\' && r->at + 1 < r->end)
            step(r);
        if (n + 1 < size)
            out[n++] = *r->at;
        step(r);
    }
    if (r->at < r->end && *r->at == quote)
        r->at++;
    if (size > 0)
        out[n] = 0;
}

static void skip_space(struct requires *r)
{
    while (r->at < r->end && isspace((unsigned char)*r->at))
        step(r);
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* At stands on the first letter of a word. True if it was a require with a quoted name. */
static bool read_word(struct requires *r, char *module, size_t size, int *line)
{
    const char *start = r->at;
    while (r->at < r->end && is_word(*r->at))
        r->at++;
    if (r->at - start != 7 || memcmp(start, "require", 7) != 0 || r->last == '.' || r->last == ':')
        return false;
    *line = r->line;
    skip_space(r);
    if (peek(r, 0) == '(') {
        r->at++;
        skip_space(r);
    }
    if (peek(r, 0) != '"' && peek(r, 0) != '\'')
        return false;
    read_quoted(r, module, size);
    return true;
}

bool requires_next(struct requires *r, char *module, size_t size, int *line)
{
    while (r->at < r->end) {
        char c = *r->at;
        if (c == '-' && peek(r, 1) == '-') {
            skip_comment(r);
        } else if (c == '"' || c == '\'') {
            read_quoted(r, module, 0);
        } else if (is_word(c)) {
            bool found = read_word(r, module, size, line);
            r->last = 'a';
            if (found)
                return true;
        } else if (c != '[' || !skip_long(r)) {
            if (!isspace((unsigned char)c))
                r->last = c;
            step(r);
        }
    }
    return false;
}
