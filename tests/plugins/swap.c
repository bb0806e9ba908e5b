/* A plugin of every kind in plain C, compiled in many versions: what differs between them is defined on the command line. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kuiper.h"

#ifndef VARIANT
#define VARIANT 1
#endif
#ifndef STATE_VERSION
#define STATE_VERSION 1
#endif
#ifndef STATE_OLDEST
#define STATE_OLDEST 1
#endif

#define S(text) {(const uint8_t *)(text), sizeof(text) - 1}

const unsigned char KUIPER_PLUGIN_ABI[16] = KUIPER_MARKER;

static uint32_t fail(const kuiper_fault *fault, uint32_t code, const char *text) {
    kuiper_str why = {(const uint8_t *)text, strlen(text)};
    fault->set(fault, code, why);
    return code;
}

static const kuiper_value *property(const kuiper_value *properties, const char *name) {
    const kuiper_member *members = properties->data.pointer;
    for (uint64_t n = 0; properties->tag == KUIPER_OBJECT && n < properties->len; n++) {
        if (members[n].key.len == strlen(name) && !memcmp(members[n].key.pointer, name, members[n].key.len)) {
            return &members[n].value;
        }
    }
    return NULL;
}

static int64_t number(const kuiper_value *value, int64_t otherwise) {
    return value && value->tag == KUIPER_INT ? value->data.int_value : otherwise;
}

static char *copied(const kuiper_value *value) {
    if (!value || value->tag != KUIPER_TEXT) {
        return NULL;
    }
    char *text = calloc(1, value->len + 1);
    memcpy(text, value->data.pointer, value->len);
    return text;
}

static kuiper_value integer(int64_t number) {
    kuiper_value value = {KUIPER_INT, 0, 0, {number}};
    return value;
}

/* Takes one integer out of what is put. */
static void take(const kuiper_output *self, const kuiper_value *values, size_t count) {
    if (count > 0) {
        *(int64_t *)self->host = number(values, 0);
    }
}

static int64_t stored(const kuiper_context *context, const char *name) {
    int64_t found = 0;
    kuiper_output output = {sizeof output, 0, &found, take, NULL};
    kuiper_str key = {(const uint8_t *)name, strlen(name)};
    context->state_get(context, key, &output);
    return found;
}

static void store(const kuiper_context *context, const char *name, int64_t number) {
    kuiper_value value = integer(number);
    kuiper_str key = {(const uint8_t *)name, strlen(name)};
    context->state_put(context, key, &value);
}

/* What only one can have at a time, as a port; without a path everybody has it. */
static int locked(const char *path, int *holds) {
    if (path && !*holds) {
        int file = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
        if (file < 0) {
            return 0;
        }
        close(file);
        *holds = 1;
    }
    return 1;
}

static void unlocked(const char *path, int *holds) {
    if (*holds) {
        unlink(path);
        *holds = 0;
    }
}

/* The sink: numbers into a file, which hold what it is given back until it is closed. */

typedef struct {
    char *path;
    /* While there is a file of that path, nothing is taken. */
    char *hold;
    /* A file that is there while it is connected, and no other can be. */
    char *lock;
    int holds;
    FILE *file;
} tally;

static void *tally_create(void *data, const kuiper_fault *fault) {
    (void)data;
#ifdef NO_INSTANCE
    fail(fault, KUIPER_NEVER, "there is no instance today");
    return NULL;
#endif
    (void)fault;
    return calloc(1, sizeof(tally));
}

static uint32_t tally_provision(void *self, const kuiper_context *context, const kuiper_value *properties, const kuiper_fault *fault) {
    (void)context;
    tally *sink = self;
    free(sink->path);
    sink->path = copied(property(properties, "path"));
    free(sink->hold);
    sink->hold = copied(property(properties, "hold"));
    free(sink->lock);
    sink->lock = copied(property(properties, "lock"));
#ifdef NO_PROVISION
    return fail(fault, KUIPER_NEVER, "property `tone` is missing: it must be a text");
#endif
    return sink->path ? KUIPER_OK : fail(fault, KUIPER_NEVER, "property `path` is missing: it must be a text");
}

static uint32_t tally_connect(void *self, const kuiper_context *context, const kuiper_fault *fault) {
    tally *sink = self;
#ifdef NO_CONNECTION
    return fail(fault, KUIPER_LATER, "nobody answers");
#endif
    if (!locked(sink->lock, &sink->holds)) {
        return fail(fault, KUIPER_LATER, "the port is in use");
    }
    sink->file = sink->file ? sink->file : fopen(sink->path, "a");
    if (!sink->file) {
        return fail(fault, KUIPER_LATER, "the file cannot be opened");
    }
    setvbuf(sink->file, NULL, _IOFBF, 1 << 16);
    kuiper_str none = {NULL, 0};
    context->status(context, KUIPER_CONNECTED, none);
    return KUIPER_OK;
}

static void write_rows(tally *sink, const kuiper_batch *rows) {
    for (size_t row = 0; row < rows->height; row++) {
        for (size_t column = 0; column < rows->width; column++) {
            if (rows->columns[column].len == 1 && rows->columns[column].pointer[0] == 'n') {
                fprintf(sink->file, "%lld %d\n", (long long)number(&rows->values[row * rows->width + column], -1), VARIANT);
            }
        }
    }
}

static uint32_t tally_collect(void *self, const kuiper_context *context, const kuiper_batch *rows, size_t *done, const kuiper_fault *fault) {
    (void)fault;
    while (((tally *)self)->hold && access(((tally *)self)->hold, F_OK) == 0) {
        usleep(1000);
    }
    write_rows(self, rows);
    *done = rows->height;
    store(context, "taken", stored(context, "taken") + (int64_t)rows->height);
    return KUIPER_OK;
}

static uint32_t tally_list(void *self, const kuiper_context *context, const kuiper_batch *rows, const kuiper_fault *fault) {
    size_t done = 0;
    return tally_collect(self, context, rows, &done, fault);
}

static uint32_t tally_close(void *self, const kuiper_context *context, const kuiper_fault *fault) {
    (void)context;
    (void)fault;
    tally *sink = self;
    if (sink->file) {
        /* Whoever did not wait for this would write before it. */
        usleep(2000);
        fclose(sink->file);
        sink->file = NULL;
    }
    unlocked(sink->lock, &sink->holds);
    return KUIPER_OK;
}

static void tally_destroy(void *self) {
    free(((tally *)self)->path);
    free(((tally *)self)->hold);
    free(((tally *)self)->lock);
    free(self);
}

/* The sources: numbers from 0 on, as they were left off. */

typedef struct {
    int64_t next, pace, count;
    char *lock;
    int holds;
} ticks;

static void *ticks_create(void *data, const kuiper_fault *fault) {
    (void)data;
    (void)fault;
    return calloc(1, sizeof(ticks));
}

static uint32_t ticks_provision(void *self, const kuiper_context *context, const kuiper_value *properties, const kuiper_fault *fault) {
    (void)context;
    (void)fault;
    ticks *source = self;
    source->next = -1;
    source->pace = number(property(properties, "pace"), 0);
    source->count = number(property(properties, "count"), INT64_MAX);
    free(source->lock);
    source->lock = copied(property(properties, "lock"));
    return KUIPER_OK;
}

static uint32_t ticks_connect(void *self, const kuiper_context *context, const kuiper_fault *fault) {
    ticks *source = self;
#ifdef NO_CONNECTION
    return fail(fault, KUIPER_LATER, "nobody answers");
#endif
    if (!locked(source->lock, &source->holds)) {
        return fail(fault, KUIPER_LATER, "the port is in use");
    }
    kuiper_str none = {NULL, 0};
    context->status(context, KUIPER_CONNECTED, none);
    return KUIPER_OK;
}

static uint32_t emit(ticks *source, const kuiper_context *context, int64_t count) {
    kuiper_str columns[2] = {S("n"), S("v")};
    kuiper_value values[2 * 128];
    count = count > 128 ? 128 : count;
    for (int64_t n = 0; n < count; n++) {
        values[2 * n] = integer(source->next + n);
        values[2 * n + 1] = integer(VARIANT);
    }
    kuiper_batch batch = {sizeof batch, 0, columns, 2, (size_t)count, values, NULL, NULL, NULL};
#ifdef POSITIONS
    kuiper_value position = integer(source->next + count);
    kuiper_emission emission = {sizeof emission, 0, &position, 0};
    uint32_t code = context->emit_rows_with(context, &batch, &emission);
#else
#ifdef STATE_FIRST
    store(context, "next", source->next + count);
#endif
    uint32_t code = context->emit_rows(context, &batch);
#ifndef STATE_FIRST
    if (code == KUIPER_OK) {
        store(context, "next", source->next + count);
    }
#endif
#endif
    if (code == KUIPER_OK) {
        source->next += count;
    }
    return code;
}

static uint32_t ticks_subscribe(void *self, const kuiper_context *context, const kuiper_fault *fault) {
    (void)fault;
    ticks *source = self;
    if (source->next < 0) {
        source->next = stored(context, "next");
    }
    /* Ten times a millisecond is too often to ask a clock, and once in ten is often enough. */
    int64_t burst = source->pace > 0 ? source->pace / 200 : 100;
    while (source->next < source->count) {
        int64_t left = source->count - source->next;
        if (emit(source, context, left < burst ? left : burst) != KUIPER_OK) {
            return KUIPER_OK;
        }
#ifndef STATE_FIRST
        if (context->stopped(context)) {
            return KUIPER_OK;
        }
#endif
        if (source->pace > 0 && context->wait(context, 5000000)) {
            return KUIPER_OK;
        }
    }
    while (!context->wait(context, 3600000000000ull)) {
    }
    return KUIPER_OK;
}

static uint32_t ticks_pull(void *self, const kuiper_context *context, int64_t at, const kuiper_fault *fault) {
    (void)at;
    (void)fault;
    ticks *source = self;
    source->next = stored(context, "next");
    for (int n = 0; n < 5; n++) {
        usleep(1000);
        if (emit(source, context, 2) != KUIPER_OK) {
            break;
        }
    }
    return KUIPER_OK;
}

#ifdef POSITIONS
static uint32_t ticks_rewind(void *self, const kuiper_context *context, const kuiper_value *position, const kuiper_fault *fault) {
    (void)context;
    (void)fault;
    ((ticks *)self)->next = number(position, 0);
    return KUIPER_OK;
}
#endif

static uint32_t ticks_close(void *self, const kuiper_context *context, const kuiper_fault *fault) {
    (void)context;
    (void)fault;
    ticks *source = self;
    unlocked(source->lock, &source->holds);
    return KUIPER_OK;
}

static void ticks_destroy(void *self) {
    free(((ticks *)self)->lock);
    free(self);
}

/* A source that is acknowledged: what was, stands in a file, number by number, and the next instance gives what does not, as a broker does.
 * A token names the instance too; one that another instance gave is a line `foreign`. */

enum { NUMBERS = 1 << 20 };

typedef struct {
    char *told;
    int64_t pace;
    uint64_t own;
    /* How many were given from each number on; -1: it was acknowledged before. */
    int16_t *given;
    int64_t heard;
} acks;

static void *acks_create(void *data, const kuiper_fault *fault) {
    (void)data;
    (void)fault;
    acks *source = calloc(1, sizeof *source);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    source->own = ((uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 20) & 0x3fffffff;
    source->given = calloc(NUMBERS, sizeof *source->given);
    return source;
}

static uint32_t acks_provision(void *self, const kuiper_context *context, const kuiper_value *properties, const kuiper_fault *fault) {
    (void)context;
    (void)fault;
    acks *source = self;
    free(source->told);
    source->told = copied(property(properties, "told"));
    source->pace = number(property(properties, "pace"), 1000);
    return source->told ? KUIPER_OK : fail(fault, KUIPER_NEVER, "property `told` is missing: it must be a text");
}

static uint32_t acks_connect(void *self, const kuiper_context *context, const kuiper_fault *fault) {
    (void)self;
    (void)fault;
    kuiper_str none = {NULL, 0};
    context->status(context, KUIPER_CONNECTED, none);
    return KUIPER_OK;
}

static void hear(const kuiper_output *output, const kuiper_value *tokens, size_t count) {
    acks *source = output->host;
    FILE *told = fopen(source->told, "a");
    for (size_t n = 0; told && n < count; n++) {
        uint64_t token = (uint64_t)tokens[n].data.int_value;
        if (token >> 32 != source->own) {
            fprintf(told, "foreign\n");
            continue;
        }
        int64_t first = (int64_t)(token & 0xffffffff);
        for (int64_t one = first; one < first + source->given[first]; one++) {
            fprintf(told, "%lld\n", (long long)one);
        }
    }
    if (told) {
        fclose(told);
    }
    source->heard += (int64_t)count;
}

/* What is told meanwhile; waits so long for the first. */
static uint32_t acks_hear(acks *source, const kuiper_context *context, uint64_t nanos) {
    kuiper_output output = {sizeof output, 0, source, hear, NULL};
    return context->acknowledged(context, nanos, &output);
}

static uint32_t acks_subscribe(void *self, const kuiper_context *context, const kuiper_fault *fault) {
    acks *source = self;
    FILE *told = fopen(source->told, "r");
    long long done;
    while (told && fscanf(told, "%lld", &done) == 1) {
        source->given[done] = -1;
    }
    if (told) {
        fclose(told);
    }
    int64_t most = source->pace / 500, next = 0;
    for (;;) {
        while (next < NUMBERS && source->given[next] < 0) {
            next++;
        }
        if (next + most >= NUMBERS) {
            return fail(fault, KUIPER_NEVER, "there are no more numbers");
        }
        kuiper_str columns[1] = {S("n")};
        kuiper_value values[128];
        int64_t count = 0;
        while (count < most && count < 128 && source->given[next + count] == 0) {
            values[count] = integer(next + count);
            count++;
        }
        source->given[next] = (int16_t)count;
        kuiper_batch batch = {sizeof batch, 0, columns, 1, (size_t)count, values, NULL, NULL, NULL};
        kuiper_emission emission = {sizeof emission, 0, NULL, source->own << 32 | (uint64_t)next};
        if (context->emit_rows_with(context, &batch, &emission) != KUIPER_OK) {
            return KUIPER_OK;
        }
        next += count;
        acks_hear(source, context, 0);
        if (context->wait(context, 2000000)) {
            return KUIPER_OK;
        }
    }
}

static uint32_t acks_close(void *self, const kuiper_context *context, const kuiper_fault *fault) {
    (void)fault;
    acks_hear(self, context, 0);
    return KUIPER_OK;
}

static void acks_destroy(void *self) {
    free(((acks *)self)->told);
    free(((acks *)self)->given);
    free(self);
}

/* The lookup: which version answers. */

static uint32_t ticks_find(void *self, const kuiper_context *context, const kuiper_batch *keys, const kuiper_str *fields, size_t fields_count, const kuiper_answers *into, const kuiper_fault *fault) {
    (void)self;
    (void)context;
    (void)fields;
    (void)fields_count;
    (void)fault;
    kuiper_str columns[1] = {S("v")};
    kuiper_value values[1] = {integer(VARIANT)};
    kuiper_batch batch = {sizeof batch, 0, columns, 1, 1, values, NULL, NULL, NULL};
    for (size_t question = 0; question < keys->height; question++) {
        into->rows(into, question, &batch);
    }
    return KUIPER_OK;
}

/* The functions: which version it is, how often it was called, and a sum. */

static int instance;

static void *plain_create(void *data, const kuiper_fault *fault) {
    (void)data;
#ifdef NO_INSTANCE
    fail(fault, KUIPER_NEVER, "there is no instance today");
    return NULL;
#endif
    (void)fault;
    return &instance;
}

static void plain_destroy(void *self) {
    (void)self;
}

static uint32_t refuse(void *self, const kuiper_value *arguments, size_t count, const kuiper_fault *fault) {
    (void)self;
    (void)arguments;
    (void)count;
#ifdef REFUSES
    return fail(fault, KUIPER_NEVER, "it takes nothing any more");
#endif
    (void)fault;
    return KUIPER_OK;
}

static uint32_t edition(void *self, const kuiper_context *context, const kuiper_batch *arguments, const kuiper_output *output, const kuiper_fault *fault) {
    (void)self;
    (void)context;
    (void)fault;
    for (size_t row = 0; row < arguments->height; row++) {
        kuiper_value value = integer(VARIANT);
        output->put(output, &value, 1);
    }
    return KUIPER_OK;
}

static uint32_t calls(void *self, const kuiper_context *context, const kuiper_batch *arguments, const kuiper_output *output, const kuiper_fault *fault) {
    (void)self;
    (void)fault;
    for (size_t row = 0; row < arguments->height; row++) {
        store(context, "calls", stored(context, "calls") + 1);
        kuiper_value value = integer(stored(context, "calls"));
        output->put(output, &value, 1);
    }
    return KUIPER_OK;
}

static void *total_start(void *self, const kuiper_fault *fault) {
    (void)self;
    (void)fault;
    return calloc(1, sizeof(int64_t));
}

static uint32_t total_add(void *self, const kuiper_context *context, void *group, const kuiper_batch *arguments, const kuiper_fault *fault) {
    (void)self;
    (void)context;
    (void)fault;
    for (size_t row = 0; row < arguments->height; row++) {
        *(int64_t *)group += number(&arguments->values[row], 0);
    }
    return KUIPER_OK;
}

static uint32_t total_result(void *self, const kuiper_context *context, void *group, const kuiper_output *output, const kuiper_fault *fault) {
    (void)self;
    (void)context;
    (void)fault;
    kuiper_value value = integer(*(int64_t *)group * 100 + VARIANT);
    output->put(output, &value, 1);
    return KUIPER_OK;
}

static uint32_t total_save(void *self, const kuiper_context *context, void *group, const kuiper_output *output, const kuiper_fault *fault) {
    (void)self;
    (void)context;
    (void)fault;
    kuiper_value value = integer(*(int64_t *)group);
    output->put(output, &value, 1);
    return KUIPER_OK;
}

static void *total_load(void *self, const kuiper_value *saved, const kuiper_fault *fault) {
    int64_t *group = total_start(self, fault);
    *group = number(saved, 0);
    return group;
}

static void total_discard(void *self, void *group) {
    (void)self;
    free(group);
}

#define PROPERTY(id, text, wanted, flag) \
    static const kuiper_property id = {sizeof(kuiper_property), flag, S(text), S(""), S(wanted), S("")};
PROPERTY(path, "path", "a text", KUIPER_REQUIRED)
PROPERTY(pace, "pace", "an integer", 0)
PROPERTY(count, "count", "an integer", 0)
PROPERTY(lock, "lock", "a text", 0)
PROPERTY(hold, "hold", "a text", 0)
PROPERTY(told, "told", "a text", KUIPER_REQUIRED)
static const kuiper_property *const of_sink[] = {&path, &hold, &lock};
static const kuiper_property *const of_acks[] = {&told, &pace};
static const kuiper_property *const of_source[] = {&pace, &count, &lock};

static const kuiper_sink tally_table = {
    .size = sizeof tally_table, .create = tally_create, .provision = tally_provision, .connect = tally_connect, .collect = tally_collect,
    .collect_list = tally_list, .close = tally_close, .destroy = tally_destroy,
};
static const kuiper_source ticks_table = {
    .size = sizeof ticks_table, .create = ticks_create, .provision = ticks_provision, .connect = ticks_connect,
    .subscribe = ticks_subscribe, .pull = ticks_pull, .close = ticks_close, .destroy = ticks_destroy,
#ifdef POSITIONS
    .rewind = ticks_rewind,
#endif
};
static const kuiper_source acks_table = {
    .size = sizeof acks_table, .create = acks_create, .provision = acks_provision, .connect = acks_connect,
    .subscribe = acks_subscribe, .close = acks_close,
    .destroy = acks_destroy,
};
static const kuiper_lookup lookup_table = {
    .size = sizeof lookup_table, .create = ticks_create, .provision = ticks_provision, .connect = ticks_connect, .find = ticks_find,
    .close = ticks_close, .destroy = ticks_destroy,
};
static const kuiper_function edition_table = {
    .size = sizeof edition_table, .create = plain_create, .validate = refuse, .call = edition, .destroy = plain_destroy};
static const kuiper_function calls_table = {
    .size = sizeof calls_table, .create = plain_create, .call = calls, .destroy = plain_destroy};
static const kuiper_function total_table = {
    .size = sizeof total_table, .create = plain_create, .start = total_start, .add = total_add, .result = total_result,
    .save = total_save, .load = total_load, .discard = total_discard, .destroy = plain_destroy};

#define STATES .state_version = STATE_VERSION, .state_oldest = STATE_OLDEST

static const kuiper_symbol tally_symbol = {
    .size = sizeof tally_symbol, .kind = KUIPER_SINK, .name = S("Tally"), .flags = KUIPER_ONE_AS_ROW, .table = &tally_table,
    .properties = of_sink, .properties_count = 3, STATES};
static const kuiper_symbol ticks_symbol = {
    .size = sizeof ticks_symbol, .kind = KUIPER_SOURCE, .name = S("Ticks"), .table = &ticks_table, .properties = of_source,
    .properties_count = 3, STATES};
static const kuiper_symbol pulls_symbol = {
    .size = sizeof pulls_symbol, .kind = KUIPER_SOURCE, .name = S("Pulls"), .flags = KUIPER_PULLED, .table = &ticks_table,
    .properties = of_source, .properties_count = 3, STATES};
static const kuiper_symbol acks_symbol = {
    .size = sizeof acks_symbol, .kind = KUIPER_SOURCE, .name = S("Acks"), .table = &acks_table, .properties = of_acks,
    .properties_count = 2};
static const kuiper_symbol lookup_symbol = {
    .size = sizeof lookup_symbol, .kind = KUIPER_LOOKUP, .name = S("TicksLookup"), .table = &lookup_table, .properties = of_source,
    .properties_count = 3, STATES};
#ifdef TWO_ARGUMENTS
#define SIGNATURE "(any, any) -> int"
#else
#define SIGNATURE "(any) -> int"
#endif
static const kuiper_symbol edition_symbol = {
    .size = sizeof edition_symbol, .kind = KUIPER_FUNCTION, .name = S("edition"), .signature = S(SIGNATURE), .table = &edition_table, STATES};
static const kuiper_symbol calls_symbol = {
    .size = sizeof calls_symbol, .kind = KUIPER_FUNCTION, .name = S("calls"), .signature = S("() -> int"), .table = &calls_table, STATES};
static const kuiper_symbol total_symbol = {
    .size = sizeof total_symbol, .kind = KUIPER_FUNCTION, .name = S("total"), .flags = KUIPER_AGGREGATE, .signature = S("(int) -> int"),
    .table = &total_table, STATES};

static const kuiper_symbol *const symbols[] = {&tally_symbol, &ticks_symbol, &pulls_symbol, &acks_symbol, &lookup_symbol, &calls_symbol, &total_symbol,
#ifndef NO_EDITION
    &edition_symbol,
#endif
};
static const kuiper_plugin plugin = {
    .size = sizeof plugin, .abi = KUIPER_ABI_VERSION, .name = S("swap"), .version = S("1"), .sdk = S("c"), .symbols = symbols,
    .count = sizeof symbols / sizeof *symbols};

const kuiper_plugin *kuiper_plugin_v1(void) {
    return &plugin;
}
