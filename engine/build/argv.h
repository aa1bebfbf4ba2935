/* argv.h - a growing, NULL-ended list of texts: arguments, or an environment. */
#ifndef BUILD_ARGV_H
#define BUILD_ARGV_H

#include <stddef.h>

struct argv {
    char **items; /* NULL-ended once something was added */
    size_t count, cap;
};

#define ARGV_INIT  \
    {              \
        NULL, 0, 0 \
    }
#define AUTO_ARGV __attribute__((cleanup(argv_release))) struct argv

void argv_add(struct argv *a, const char *text); /* copies */
void argv_addf(struct argv *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void argv_add_all(struct argv *a, char *const *list); /* a NULL-ended list; NULL: nothing */
/* "NAME=value": takes the place of an earlier one of that name. */
void argv_set_env(struct argv *a, const char *pair);
/* Adds "NAME=value" if our own environment has it. */
void argv_pass_env(struct argv *a, const char *name);
void argv_release(struct argv *a);

#endif
