#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "db/db.h"
#include "db/driver.h"

struct db_value db_int(int64_t i)
{
    return (struct db_value){ DB_INT, i, NULL, 0 };
}

struct db_value db_text(const char *s)
{
    return (struct db_value){ DB_TEXT, 0, s, s == NULL ? 0 : strlen(s) };
}

struct db_value db_blob(const void *data, size_t len)
{
    return (struct db_value){ DB_BLOB, 0, data == NULL ? "" : data, len };
}

struct db_value db_null(void)
{
    return (struct db_value){ DB_NULL, 0, NULL, 0 };
}

void db_rows_add(struct db_rows *r, enum db_kind kind, int64_t i, const void *data, size_t len)
{
    struct db_cell *c;

    VEC_GROW(r->cells, r->ncells, r->cells_cap);
    c = &r->cells[r->ncells++];
    c->kind = kind;
    c->i = i;
    c->offset = r->bytes.len;
    c->len = len;
    buf_append(&r->bytes, data, len);
    buf_char(&r->bytes, '\0');
}

size_t db_rows_count(const struct db_rows *r)
{
    return r->cols == 0 ? 0 : r->ncells / (size_t)r->cols;
}

/* A row or column that the answer does not have reads as NULL. */
static const struct db_cell *cell(const struct db_rows *r, size_t row, int col)
{
    if (row >= db_rows_count(r) || col < 0 || col >= r->cols)
        return NULL;
    return &r->cells[row * (size_t)r->cols + (size_t)col];
}

bool db_is_null(const struct db_rows *r, size_t row, int col)
{
    const struct db_cell *c = cell(r, row, col);

    return c == NULL || c->kind == DB_NULL;
}

int64_t db_get_int(const struct db_rows *r, size_t row, int col)
{
    const struct db_cell *c = cell(r, row, col);

    if (c == NULL || c->kind == DB_NULL)
        return 0;
    return c->kind == DB_INT ? c->i : strtoll(r->bytes.data + c->offset, NULL, 10);
}

const char *db_get_text(const struct db_rows *r, size_t row, int col)
{
    const struct db_cell *c = cell(r, row, col);

    return c == NULL || c->kind == DB_NULL ? "" : r->bytes.data + c->offset;
}

const void *db_get_blob(const struct db_rows *r, size_t row, int col, size_t *ret_len)
{
    const struct db_cell *c = cell(r, row, col);

    *ret_len = c == NULL || c->kind == DB_NULL ? 0 : c->len;
    return c == NULL || c->kind == DB_NULL ? "" : r->bytes.data + c->offset;
}

void db_rows_free(struct db_rows *r)
{
    if (r == NULL)
        return;
    free(r->cells);
    buf_release(&r->bytes);
    free(r);
}
