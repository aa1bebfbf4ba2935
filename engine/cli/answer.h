/* answer.h - reading the control plane's answers for display: what is missing shows as nothing. */
#ifndef CLI_ANSWER_H
#define CLI_ANSWER_H

#include <jansson.h>

/* Borrowed; "" if there is no such text. */
static inline const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));

    return text == NULL ? "" : text;
}

/* 0 if there is no such number. */
static inline long long int_of(const json_t *o, const char *key)
{
    return (long long)json_integer_value(json_object_get(o, key));
}

static inline double number_of(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

#endif
