/* sandbox.h - a Lua state that can compute and nothing else.
 *
 * Its globals are an allow-list (sandbox_globals[]); it has its own allocator with a limit, fuel
 * that every step and every allocated byte uses up, and no collector: a run is short and its memory
 * limit covers all that it ever allocates. There are no metatables, no pcall and no coroutines for
 * a policy to hide behind, so an error always ends the run; `dead` says why, and a result is worth
 * nothing once it is set. pairs() goes in key order, tostring() and string.format() never show an
 * address, table.sort() is stable: the same input gives the same answer in every process.
 *
 * What a C function cannot bound itself (a parser, a huge copy) is bounded by the process around it
 * (host.c kills it).
 *
 *     sandbox_init(&s);  lua_pcall(s.L, ...);  if (s.dead) ...  sandbox_release(&s); */
#ifndef POLICY_SANDBOX_H
#define POLICY_SANDBOX_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SANDBOX_MEMORY_BYTES = 16 << 20,
    SANDBOX_FUEL = 5000000,        /* steps; 64 allocated bytes are one */
    SANDBOX_TEXT_BYTES = 64 << 10, /* what string.rep may make */
    SANDBOX_LIST_MAX = 100000,     /* elements that a table function works on */
    SANDBOX_UNPACK_MAX = 256,
};

enum sandbox_death { SANDBOX_ALIVE = 0, SANDBOX_OUT_OF_FUEL, SANDBOX_OUT_OF_MEMORY };

struct sandbox {
    lua_State *L;
    size_t used;      /* bytes allocated and not freed */
    size_t uncharged; /* bytes allocated since the last charge */
    int64_t fuel;
    enum sandbox_death dead; /* once set, it stays */
};

/* The names that a policy finds, sorted, "table.concat" for a field; NULL-ended. `require` is added
 * by eval.c. */
extern const char *const sandbox_globals[];

/* Ends the process if there is no memory for an empty state. The sandbox must not move. */
void sandbox_init(struct sandbox *s);
void sandbox_release(struct sandbox *s);

struct sandbox *sandbox_of(lua_State *L);

/* Uses up fuel; raises a Lua error when there is none left. For C functions whose work grows with
 * their input. */
void sandbox_charge(lua_State *L, size_t steps);

/* Parts of sandbox_init(): put `string` and `table` into the table at target. stock: the stock
 * string library. */
void sandbox_add_text(lua_State *L, int stock, int target);
void sandbox_add_tables(lua_State *L, int target);
int sandbox_pairs(lua_State *L);

/* The value at index as text, as tostring() gives it; pushes it. Raises for what has none. */
const char *sandbox_tostring(lua_State *L, int index, size_t *len);

#endif
