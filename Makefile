# Slipway. `make run` and `make check` do everything on a fresh Debian 12; `make help` lists the rest.
#
# One non-recursive Makefile. A .c file in a folder of engine/ or in agent/ is compiled because it is
# there; a test is tests/unit/<folder>/test_<module>.c and links the library. SAN=1 builds the same
# with ASan and UBSan, in a directory of its own.

PREFIX ?= /usr/local
SAN ?= 0
CC = gcc
CCACHE := $(shell command -v ccache 2>/dev/null)
OUT := $(if $(filter 1,$(SAN)),build/san,build)

# The order of the house (each may include itself and what stands before it).
SHARED := base wire delta swarm rollout io store
HOUSE := $(SHARED) db queue build policy region control web cli

PACKAGES := libpq sqlite3 libcurl libzstd openssl jansson lua5.4 libmicrohttpd
CPPFLAGS = -D_GNU_SOURCE -Iengine -I$(OUT)/gen
CFLAGS = -std=c11 -O2 -g -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes \
	-Wmissing-prototypes -Wvla -Wwrite-strings -Wformat=2 -Wcast-qual -Wswitch-enum -Werror \
	-fno-common -fstack-protector-strong -fno-omit-frame-pointer
AGENT_LIBS = -lzstd -lssl -lcrypto -ljansson -lcurl -lev -lm -lpthread
LIBS = $(AGENT_LIBS) -lpq -lsqlite3 -lmicrohttpd -llua5.4
CPPFLAGS += $(shell pkg-config --cflags libpq lua5.4 2>/dev/null)
ifeq ($(SAN),1)
CFLAGS += -fsanitize=address,undefined -fno-sanitize-recover=undefined -O1
LDFLAGS += -fsanitize=address,undefined
endif

shared_src := $(foreach d,$(SHARED),$(wildcard engine/$(d)/*.c))
house_src := $(foreach d,$(HOUSE),$(wildcard engine/$(d)/*.c))
agent_src := $(wildcard agent/*.c)
unit_src := $(wildcard tests/unit/*/test_*.c)
test_lib_src := $(wildcard tests/lib/*.c)
tool_src := $(wildcard tests/tools/*.c)
fuzz_src := $(wildcard tests/fuzz/fuzz_*.c)

obj = $(patsubst %.c,$(OUT)/obj/%.o,$(1))
gen_obj := $(OUT)/gen/embedded.o
unit_bin := $(patsubst tests/unit/%.c,$(OUT)/unit/%,$(unit_src))
tool_bin := $(patsubst tests/tools/%.c,$(OUT)/tools/%,$(tool_src))
fuzz_bin := $(patsubst tests/fuzz/%.c,$(OUT)/fuzz/%,$(fuzz_src))

.PHONY: all run check setup clean install help unit tools fuzz FORCE
.DELETE_ON_ERROR:
.SECONDARY:

all: $(OUT)/engine $(OUT)/engine-agent

help:
	@sed -n 's/^## //p' Makefile

## make run      set up, build, and deploy policies/quickstart.lua on this machine
run: setup
	@$(MAKE) --no-print-directory all
	build/engine run policies/quickstart.lua

## make check    set up, build, and run every test
check: setup
	@scripts/check

## make setup    install the packages that are missing
setup:
	@scripts/setup

## make install  DESTDIR= PREFIX=/usr/local
install: all
	install -D -m 755 $(OUT)/engine $(DESTDIR)$(PREFIX)/bin/engine
	install -D -m 755 $(OUT)/engine-agent $(DESTDIR)$(PREFIX)/bin/engine-agent
	for f in policies/*.lua policies/slipway/*.lua; do \
	  install -D -m 644 $$f $(DESTDIR)$(PREFIX)/share/slipway/$$f; done

## make clean    remove what was built
clean:
	rm -rf build

unit: $(unit_bin)
tools: $(tool_bin)
fuzz: $(fuzz_bin)

$(OUT)/engine: $(call obj,engine/main.c) $(OUT)/libslipway.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

$(OUT)/engine-agent: $(call obj,$(agent_src)) $(OUT)/libshared.a
	$(CC) $(LDFLAGS) -o $@ $^ $(AGENT_LIBS)

$(OUT)/libslipway.a: $(call obj,$(house_src)) $(gen_obj)
	@rm -f $@ && ar rcs $@ $^

$(OUT)/libshared.a: $(call obj,$(shared_src))
	@rm -f $@ && ar rcs $@ $^

$(OUT)/libagent.a: $(call obj,$(filter-out agent/main.c,$(agent_src)))
	@rm -f $@ && ar rcs $@ $^

$(OUT)/unit/%: $(OUT)/obj/tests/unit/%.o $(call obj,$(test_lib_src)) $(OUT)/libagent.a $(OUT)/libslipway.a
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^ $(LIBS) -lcmocka

$(OUT)/tools/%: $(OUT)/obj/tests/tools/%.o $(call obj,$(test_lib_src)) $(OUT)/libslipway.a
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

# A fuzz target is a file with LLVMFuzzerTestOneInput(); tests/fuzz/replay.c runs it over its corpus.
$(OUT)/fuzz/%: $(OUT)/obj/tests/fuzz/%.o $(OUT)/obj/tests/fuzz/replay.o $(OUT)/libagent.a $(OUT)/libslipway.a
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

$(OUT)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CCACHE) $(CC) $(CPPFLAGS) $(if $(filter tests/% agent/%,$<),-Itests -Iagent) $(CFLAGS) -MMD -MP -c -o $@ $<

# Files that travel inside the binary: the Lua library, the migrations and the page.
embedded := $(sort $(wildcard policies/slipway/*.lua engine/db/migrations/*.sql engine/web/*.html \
	engine/web/*.css engine/web/*.js))
$(OUT)/gen/embedded.c: scripts/embed.lua $(embedded)
	@mkdir -p $(@D)
	lua5.4 scripts/embed.lua $(embedded) > $@

$(OUT)/gen/embedded.o: $(OUT)/gen/embedded.c engine/base/embedded.h
	$(CCACHE) $(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

-include $(shell find $(OUT)/obj -name '*.d' 2>/dev/null)
