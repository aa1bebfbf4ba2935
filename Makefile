# Slipway. `make run` and `make check` do everything on a fresh Debian 12; `make help` lists the
# rest, V=1 shows the command lines.
#
# One non-recursive Makefile. A .c file in a folder of engine/ or in agent/ is compiled because it is
# there; a test is tests/unit/<folder>/test_<module>.c and links the library. SAN=1 builds the same
# with ASan and UBSan, FUZZ=1 with clang's libFuzzer, each in a directory of its own.

PREFIX ?= /usr/local
SAN ?= 0
FUZZ ?= 0
Q := $(if $(V),,@)
say := @printf '  %-5s %s\n'
CC = gcc
CCACHE := $(shell command -v ccache 2>/dev/null)
OUT := $(if $(filter 1,$(SAN)),build/san,$(if $(filter 1,$(FUZZ)),build/libfuzzer,build))

# The order of the house (each may include itself and what stands before it).
SHARED := base wire delta swarm rollout io store
HOUSE := $(SHARED) db queue build policy region control web cli

CPPFLAGS := -D_GNU_SOURCE -Iengine $(shell pkg-config --cflags libpq lua5.4 2>/dev/null)
CFLAGS := -std=c11 -O2 -g -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes \
	-Wmissing-prototypes -Wvla -Wwrite-strings -Wformat=2 -Wcast-qual -Wswitch-enum -Werror \
	-fno-common -fstack-protector-strong -fno-omit-frame-pointer
AGENT_LIBS := -lzstd -lssl -lcrypto -ljansson -lev -lm -lpthread
# Of a library that is loaded, where it is there: libcrypto has AES-GCM by VAES from 3.1 on, amd64 alone has VAES.
ifneq (,$(shell ! pkg-config --atleast-version=3.1 libcrypto 2>/dev/null && \
  $(CC) -fsyntax-only -include intel-ipsec-mb.h -xc /dev/null 2>/dev/null && echo there))
CPPFLAGS += -DHAVE_IPSEC_MB
endif
LIBS := $(AGENT_LIBS) -lpq -lsqlite3 -lmicrohttpd -llua5.4
ifeq ($(SAN),1)
CFLAGS += -fsanitize=address,undefined -fno-sanitize-recover=undefined -O1
LDFLAGS += -fsanitize=address,undefined
else ifeq ($(FUZZ),1)
CC = clang
CFLAGS += -fsanitize=fuzzer-no-link,address,undefined -O1 -Wno-error
LDFLAGS += -fsanitize=fuzzer,address,undefined
endif

shared_src := $(foreach d,$(SHARED),$(wildcard engine/$(d)/*.c))
house_src := $(foreach d,$(HOUSE),$(wildcard engine/$(d)/*.c))
agent_src := $(wildcard agent/*.c)
unit_src := $(wildcard tests/unit/*/test_*.c)
test_lib_src := $(wildcard tests/lib/*.c)
tool_src := $(wildcard tests/tools/*.c)
fuzz_src := $(wildcard tests/fuzz/fuzz_*.c)
installed_lua := $(filter-out %_spec.lua,$(wildcard policies/*.lua policies/slipway/*.lua))

# Files that travel inside the binary: the Lua library, the migrations and the page.
embedded := $(sort $(wildcard policies/slipway/*.lua engine/db/migrations/*.sql engine/web/*.html \
	engine/web/*.css engine/web/*.js))

obj = $(patsubst %.c,$(OUT)/obj/%.o,$(1))
shared_obj := $(call obj,$(shared_src))
house_obj := $(call obj,$(house_src)) $(OUT)/obj/embedded.o
agent_obj := $(call obj,$(filter-out agent/main.c,$(agent_src)))
test_lib_obj := $(call obj,$(test_lib_src))
unit_bin := $(patsubst tests/unit/%.c,$(OUT)/unit/%,$(unit_src))
tool_bin := $(patsubst tests/tools/%.c,$(OUT)/tools/%,$(tool_src))
fuzz_bin := $(patsubst tests/fuzz/%.c,$(OUT)/fuzz/%,$(fuzz_src))

.PHONY: all run check setup clean install help unit tools fuzz fuzz-run bench-quickstart bench-delta soak-delta soak-kills bench-delta-large bench-swarm bench-swarm-cpu bench-idle sim-long FORCE
.DELETE_ON_ERROR:
.SECONDARY:

programs := $(OUT)/engine $(if $(wildcard agent/main.c),$(OUT)/engine-agent)
all: $(programs)
	@:

help:
	@sed -n 's/^## //p' Makefile

## make run      set up, build, and deploy policies/quickstart.lua on this machine (ARGS= for more)
run: setup
	@$(MAKE) --no-print-directory all
	build/engine run policies/quickstart.lua $(ARGS)

## make check    set up, build, and run every test
check: setup
	@scripts/check

## make setup    install the packages that are missing
setup:
	@scripts/setup

## make install  DESTDIR= PREFIX=/usr/local
install: all
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(programs) $(DESTDIR)$(PREFIX)/bin/
	for f in $(installed_lua); do \
	  install -D -m 644 $$f $(DESTDIR)$(PREFIX)/share/slipway/$$f || exit 1; done

## make bench-quickstart   trigger to the last local machine healthy, less the build
bench-quickstart: all
	@tests/bench/quickstart

## make bench-delta   the bytes of a new version, beside other programs (ARGS="esbuild turbo")
bench-delta: all
	@tests/bench/delta $(ARGS)

## make bench-delta-large   how fast large artifacts go through a delta (GIB=1; ARGS="file-same tree-2%")
bench-delta-large: all
	@GIB=$(or $(GIB),1) tests/bench/delta-large $(ARGS)

## make soak-delta CASES=10000 SEED=1   make, apply and harm that many generated deltas
soak-delta: $(OUT)/unit/delta/test_properties
	DELTA_CASE=$(or $(SEED),1) DELTA_CASES=$(or $(CASES),10000) $<

## make soak-kills SEGMENTS=12   kill -9 at every change that an apply makes (`make check`: some of them)
soak-kills: $(OUT)/unit/store/test_delta_killed $(OUT)/unit/agent/test_assemble_killed
	for test in $^; do KILL_STRIDE=1 KILL_SEGMENTS=$(or $(SEGMENTS),12) $$test || exit 1; done

## make bench-swarm   a file to many machines behind shaped links, beside other programs (root;
##                    PEERS=16 RATE=100 SIZE=128 ONLY=ours and more: see tests/bench/swarm)
bench-swarm: all $(OUT)/tools/hostile_peer
	@tests/bench/swarm

## make bench-swarm-cpu   what giving a file to 4 machines costs the processor (root; SIZE=1024 ONLY=ours)
bench-swarm-cpu: all $(OUT)/tools/bench_floor
	@tests/bench/swarm-cpu

## make sim-long   100,000 machines x 10 GB, 8 regions, in virtual time (some 20 minutes of one core;
##                 MACHINES= REGIONS= PIECES=640 SEED=1 ARGS="--slow 1%:8 --die 2%")
sim-long: all
	GLIBC_TUNABLES=glibc.malloc.hugetlb=1 build/engine simulate-swarm --machines $(or $(MACHINES),100000) \
	  --regions $(or $(REGIONS),8) --size 10GB --pieces $(or $(PIECES),640) --seed $(or $(SEED),1) $(ARGS)

## make bench-idle   what an idle link costs in memory (LINKS=5000)
bench-idle: $(OUT)/tools/bench_idle
	@$< $(or $(LINKS),5000)

## make clean    remove what was built
clean:
	rm -rf build

## make unit     build the unit tests (SAN=1: with ASan and UBSan, as `make check` runs them)
unit: $(unit_bin)
	@:
tools: $(tool_bin)
	@:
fuzz: $(fuzz_bin)
	@:

## make fuzz-run TARGET=manifest SECONDS=60   search for new inputs with libFuzzer (needs clang)
fuzz-run:
	@$(MAKE) --no-print-directory FUZZ=1 build/libfuzzer/fuzz/fuzz_$(TARGET)
	@mkdir -p build/libfuzzer/found/$(TARGET)
	build/libfuzzer/fuzz/fuzz_$(TARGET) -max_total_time=$(or $(SECONDS),60) -rss_limit_mb=2048 \
	  -artifact_prefix=build/libfuzzer/ build/libfuzzer/found/$(TARGET) tests/fuzz/corpus/$(TARGET)

$(OUT)/engine: $(call obj,engine/main.c) $(OUT)/libslipway.a
	$(say) link $@
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

$(OUT)/engine-agent: $(call obj,agent/main.c) $(OUT)/libagent.a $(OUT)/libshared.a
	$(say) link $@
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(AGENT_LIBS)

# A library is made anew when a member changes, comes or goes.
$(OUT)/libslipway.a: $(house_obj) $(OUT)/lists/house_obj
	@rm -f $@ && ar rcs $@ $(house_obj)

$(OUT)/libshared.a: $(shared_obj) $(OUT)/lists/shared_obj
	@rm -f $@ && ar rcs $@ $(shared_obj)

$(OUT)/libagent.a: $(agent_obj) $(OUT)/lists/agent_obj
	@rm -f $@ && ar rcs $@ $(agent_obj)

# Fuzz targets take of it what they name.
$(OUT)/libtest.a: $(test_lib_obj)
	@rm -f $@ && ar rcs $@ $^

test_libs := $(test_lib_obj) $(OUT)/libagent.a $(OUT)/libslipway.a

# These count what is decoded.
$(OUT)/unit/store/test_delta_killed: LDFLAGS += \
	-Wl,--wrap=delta_read_segment,--wrap=full_read_segment
$(OUT)/unit/agent/test_assemble_killed: LDFLAGS += \
	-Wl,--wrap=delta_read_segment,--wrap=full_read_segment

$(OUT)/unit/%: $(OUT)/obj/tests/unit/%.o $(test_libs)
	@mkdir -p $(@D)
	$(say) link $@
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS) -lcmocka

$(OUT)/tools/%: $(OUT)/obj/tests/tools/%.o $(test_libs)
	@mkdir -p $(@D)
	$(say) link $@
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS) -lcmocka

# A fuzz target is a file with LLVMFuzzerTestOneInput(). tests/fuzz/replay.c runs it over its corpus;
# with FUZZ=1 libFuzzer has the main().
replay_obj := $(if $(filter 1,$(FUZZ)),,$(OUT)/obj/tests/fuzz/replay.o)
$(OUT)/fuzz/%: $(OUT)/obj/tests/fuzz/%.o $(replay_obj) $(OUT)/libtest.a $(OUT)/libagent.a \
  $(OUT)/libslipway.a
	@mkdir -p $(@D)
	$(say) link $@
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

compile = $(CCACHE) $(CC) $(CPPFLAGS) $(CFLAGS)
own_includes = $(if $(filter agent/% tests/%,$(1)),-Iagent) $(if $(filter tests/%,$(1)),-Itests)
$(OUT)/obj/%.o: %.c $(OUT)/lists/compile
	@mkdir -p $(@D)
	$(say) cc $<
	$(Q)$(compile) $(call own_includes,$<) -MMD -MP -c -o $@ $<

$(OUT)/obj/embedded.o: $(OUT)/embedded.c engine/base/embedded.h $(OUT)/lists/compile
	@mkdir -p $(@D)
	$(Q)$(compile) -c -o $@ $<

$(OUT)/embedded.c: scripts/embed.lua $(embedded) $(OUT)/lists/embedded
	$(say) embed $@
	$(Q)lua5.4 scripts/embed.lua $(embedded) > $@

# $(OUT)/lists/NAME holds the value of the variable NAME and is touched only when that changes.
$(OUT)/lists/%: FORCE
	@mkdir -p $(@D); echo '$($*)' | cmp -s - $@ || echo '$($*)' > $@

-include $(shell find $(OUT)/obj -name '*.d' 2>/dev/null)
