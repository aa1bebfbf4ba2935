/* list.h - a doubly linked ring of nodes embedded in their owners.
 *
 *     struct list jobs; list_init(&jobs);
 *     list_push(&jobs, &job->node);                 behind the last
 *     LIST_EACH(&jobs, n) { struct job *j = CONTAINER_OF(n, struct job, node); ... }
 *
 * LIST_EACH allows the current node to be removed (and freed) in its body. */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *prev;
};

#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define LIST_EACH(head, n)                                                \
    for (struct list *n = (head)->next, *n##_next = n->next; n != (head); \
         n = n##_next, n##_next = n->next)

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

static inline void list_push(struct list *head, struct list *n)
{
    n->prev = head->prev;
    n->next = head;
    head->prev->next = n;
    head->prev = n;
}

/* Removing twice is harmless. */
static inline void list_remove(struct list *n)
{
    n->prev->next = n->next;
    n->next->prev = n->prev;
    list_init(n);
}

#endif
