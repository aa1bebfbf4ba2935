/* requires.h - finding the literal requires of a Lua text, without running it.
 *
 * Understands comments and texts well enough not to be fooled by them; a require whose argument is
 * computed is not found, and fails when it runs. */
#ifndef POLICY_REQUIRES_H
#define POLICY_REQUIRES_H

#include <stdbool.h>
#include <stddef.h>

struct requires
{
    const char *at, *end;
    int line;  /* of `at`, 1-based */
    char last; /* the character before the word, to tell x.require from require */
};

void requires_init(struct requires *r, const char *text, size_t len);

/* The next module name, at most size - 1 bytes (a longer one is cut, and so names no file), and
 * the line of its require. False at the end. */
bool requires_next(struct requires *r, char *module, size_t size, int *line);

#endif
