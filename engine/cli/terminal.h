/* terminal.h - text from outside, before a person sees it.
 *
 * Build logs, reasons of policies and words of failed programs may hold escape sequences that move the
 * cursor, set the title or make a terminal answer. Colours ("ESC [ digits ; digits m") stay. */
#ifndef CLI_TERMINAL_H
#define CLI_TERMINAL_H

#include <jansson.h>
#include <stddef.h>

/* Puts '?' in place of each control character but tab, line end and the ESC of a colour. In place, the
 * length stays. */
void terminal_tame(char *text, size_t len);

/* The same for every text in a value. */
void terminal_tame_json(json_t *value);

#endif
