/* A plugin that keeps the contract, unless a name is defined that breaks it: what `kuiper plugin test` is tested with. */
#define _DEFAULT_SOURCE
#include "kuiper_easy.h"

#include <pthread.h>
#include <unistd.h>

/* ---- a sink ---- */

struct sink {
    char *path;
    char *buffer;
};

static const kuiper_property path = {sizeof path, KUIPER_REQUIRED, KUIPER_STR("path"), KUIPER_STR("A path."), KUIPER_STR("a text"),
    KUIPER_STR("")};
static const kuiper_property size = {sizeof size, 0, KUIPER_STR("size"), KUIPER_STR("A size."), KUIPER_STR("an integer"),
#ifdef DEFAULT_NO_JSON
    KUIPER_STR("ten")};
#else
    KUIPER_STR("10")};
#endif
static const kuiper_property *const properties[] = {&path, &size};
static const kuiper_symbol sink_symbol;

static int *volatile nowhere;
static void crash(void) {
    *nowhere = 0;
}

/* Two instances that are in here at one time find each other. */
static int inside;
static uint32_t alone(const kuiper_fault *fault) {
    uint32_t code = KUIPER_OK;
#ifdef NOT_ALONE
    __sync_fetch_and_add(&inside, 1);
    usleep(300);
    code = __sync_sub_and_fetch(&inside, 1) ? kuiper_fail(fault, KUIPER_BUG, "there is another") : KUIPER_OK;
#endif
    (void)inside;
    (void)fault;
    return code;
}

static void *create(void *data, const kuiper_fault *fault) {
    (void)data;
    (void)fault;
    return calloc(1, sizeof(struct sink));
}

static uint32_t provision(void *self, const kuiper_context *context, const kuiper_value *given, const kuiper_fault *fault) {
    struct sink *sink = self;
    int64_t number = 10;
    uint32_t code = KUIPER_OK;
    (void)context;
#ifdef MISSING_TAKEN
    if (kuiper_member_of(given, kuiper_str_of("path")))
#endif
#ifndef UNKNOWN_TAKEN
        code = kuiper_check(&sink_symbol, given, fault);
#endif
#ifdef REFUSES_SILENTLY
    if (code != KUIPER_OK) {
        return code;
    }
    if (given->len > 1) {
        return KUIPER_NEVER;
    }
#endif
#ifdef REFUSES_VAGUELY
    if (code != KUIPER_OK) {
        return kuiper_fail(fault, KUIPER_NEVER, "something is wrong");
    }
#endif
#ifdef TRIES_AGAIN
    if (code != KUIPER_OK) {
        return kuiper_fail(fault, KUIPER_LATER, "`path` or `noSuchProperty`");
    }
#endif
#ifdef BUG_AT_ONCE
    return kuiper_fail(fault, KUIPER_BUG, "of course");
#endif
#ifdef TEXT_NOT_UTF8
    if (code != KUIPER_OK) {
        return kuiper_fail(fault, KUIPER_NEVER, "`path` \xff");
    }
#endif
#ifdef TYPE_TAKEN
    return code;
#endif
    if (code == KUIPER_OK) {
        code = alone(fault);
    }
    if (code == KUIPER_OK) {
        code = kuiper_text_property(given, "path", &sink->path, fault);
    }
    return code == KUIPER_OK ? kuiper_int_property(given, "size", 0, 1000, &number, fault) : code;
}

static uint32_t connect(void *self, const kuiper_context *context, const kuiper_fault *fault) {
    struct sink *sink = self;
    (void)fault;
    (void)context;
#ifdef NO_CODE
    return 77;
#endif
#ifdef BAD_STATUS
    kuiper_status(context, 9, "");
#endif
    if (!sink->buffer) {
        sink->buffer = malloc(100);
    }
    return KUIPER_OK;
}

static uint32_t collect(
    void *self, const kuiper_context *context, const kuiper_batch *rows, size_t *done, const kuiper_fault *fault) {
    size_t cell;
    (void)self;
    (void)context;
    (void)fault;
    *done = rows->height;
#ifdef TOOK_TOO_MANY
    *done = rows->height + 1;
#endif
#ifdef TOOK_ALL_AND_FAILED
    return kuiper_fail(fault, KUIPER_NEVER, "not this one");
#endif
#ifdef CRASH_AT_MANY
    if (rows->height > 1000) {
        crash();
    }
#endif
    for (cell = 0; cell < rows->width * rows->height; cell++) {
        const kuiper_value *value = &rows->values[cell];
        (void)value;
#ifdef CRASH_AT_NULL
        if (value->tag == KUIPER_NULL) {
            crash();
        }
#endif
#ifdef CRASH_AT_BYTES
        if (value->tag == KUIPER_BYTES) {
            crash();
        }
#endif
#ifdef CRASH_AT_MISSING
        if (value->tag == KUIPER_MISSING) {
            crash();
        }
#endif
    }
    return KUIPER_OK;
}

static uint32_t collect_list(void *self, const kuiper_context *context, const kuiper_batch *rows, const kuiper_fault *fault) {
    (void)self;
    (void)context;
    (void)rows;
    (void)fault;
#ifdef REFUSES_BEYOND
    fault->row(fault, 9, KUIPER_NEVER, kuiper_str_of("the ninth"));
#endif
    return KUIPER_OK;
}

static uint32_t end(void *self, const kuiper_context *context, const kuiper_fault *fault) {
    struct sink *sink = self;
    (void)context;
    (void)fault;
#ifndef LEAKS
    free(sink->buffer);
#endif
#ifndef FREES_TWICE
    sink->buffer = NULL;
#endif
#ifdef CLOSE_FAILS
    return kuiper_fail(fault, KUIPER_LATER, "no end");
#endif
    return KUIPER_OK;
}

static void destroy(void *self) {
    struct sink *sink = self;
    free(sink->buffer);
    free(sink->path);
    free(sink);
}

static const kuiper_sink sink_table = {
    .size = sizeof sink_table,
    .create = create,
    .provision = provision,
    .connect = connect,
    .collect = collect,
    .collect_list = collect_list,
    .close = end,
#ifndef NO_DESTROY
    .destroy = destroy,
#endif
};

static const kuiper_symbol sink_symbol = {
    .size = sizeof sink_symbol,
    .kind = KUIPER_SINK,
    .name = KUIPER_STR("Sink"),
    .table = &sink_table,
    .properties = properties,
    .properties_count = 2,
};

/* ---- sources ---- */

static uint32_t take(void *self, const kuiper_context *context, const kuiper_value *given, const kuiper_fault *fault) {
    (void)self;
    (void)context;
    (void)given;
    (void)fault;
    return KUIPER_OK;
}

static uint32_t step(void *self, const kuiper_context *context, const kuiper_fault *fault) {
    return take(self, context, NULL, fault);
}

#ifdef USES_WHAT_IT_DID_NOT_KEEP
static void *late(void *context) {
    usleep(20000);
    kuiper_log(context, KUIPER_LOG_INFO, "late");
    return NULL;
}
#endif

static uint32_t subscribe(void *self, const kuiper_context *context, const kuiper_fault *fault) {
    static const kuiper_str columns[] = {KUIPER_STR("n")};
    kuiper_value cell = kuiper_int(1);
    kuiper_batch batch = {sizeof batch, 0, columns, 1, 1, &cell, NULL, NULL, NULL};
    (void)self;
    (void)fault;
#ifdef EMITS_NO_TEXT
    cell = kuiper_text("\xff", 1);
#endif
#ifdef EMITS_NO_TAG
    cell.tag = 12;
#endif
#ifdef KEEPS_THE_CONTEXT
    context->retain(context);
#endif
#ifdef USES_WHAT_IT_DID_NOT_KEEP
    {
        pthread_t thread;
        pthread_create(&thread, NULL, late, (void *)context);
        pthread_detach(thread);
        return KUIPER_OK;
    }
#endif
#ifdef DEAF
    for (;;) {
        context->emit_rows(context, &batch);
        usleep(1000);
    }
#endif
    for (;;) {
        uint32_t code = context->emit_rows(context, &batch);
        if (code != KUIPER_OK) {
            return code;
        }
        if (kuiper_wait(context, 1000000)) {
            return KUIPER_STOPPED;
        }
    }
}

static uint32_t pull(void *self, const kuiper_context *context, int64_t at, const kuiper_fault *fault) {
    static const kuiper_str columns[] = {KUIPER_STR("n")};
    kuiper_value cell = kuiper_int(at), position = kuiper_int(7);
    kuiper_batch batch = {sizeof batch, 0, columns, 1, 1, &cell, NULL, NULL, NULL};
    kuiper_emission more = {sizeof more, 0, &position, 0};
    (void)self;
    (void)fault;
#ifdef SLOW_TO_STOP
    sleep(6);
#endif
    context->emit_rows_with(context, &batch, &more);
    return KUIPER_OK;
}

static uint32_t rewind_to(
    void *self, const kuiper_context *context, const kuiper_value *position, const kuiper_fault *fault) {
#ifdef CANNOT_GO_BACK
    return kuiper_fail(fault, KUIPER_NEVER, "there is no way back");
#endif
    (void)self;
    (void)context;
    (void)fault;
    return position->tag == KUIPER_INT ? KUIPER_OK : kuiper_fail(fault, KUIPER_NEVER, "no position");
}

static const kuiper_source source_table = {
    .size = sizeof source_table,
    .create = create,
    .provision = take,
    .connect = step,
#ifndef NO_SUBSCRIBE
    .subscribe = subscribe,
#endif
    .close = step,
    .destroy = destroy,
};

static const kuiper_source pull_table = {
    .size = sizeof pull_table,
    .create = create,
    .provision = take,
    .connect = step,
    .pull = pull,
    .close = step,
    .destroy = destroy,
    .rewind = rewind_to,
};

static const kuiper_symbol source_symbol = {
    .size = sizeof source_symbol,
    .kind = KUIPER_SOURCE,
#ifdef ROWS_FOR_BYTES
    .flags = KUIPER_EMITS_BYTES,
#endif
    .name = KUIPER_STR("Source"),
    .table = &source_table,
};

static const kuiper_symbol pull_symbol = {
    .size = sizeof pull_symbol,
    .kind = KUIPER_SOURCE,
    .flags = KUIPER_PULLED,
    .name = KUIPER_STR("Pulled"),
    .table = &pull_table,
};

/* ---- functions ---- */

static uint32_t validate(void *self, const kuiper_value *arguments, size_t count, const kuiper_fault *fault) {
    size_t n;
    (void)self;
    (void)fault;
    for (n = 0; n < count; n++) {
#ifdef CRASH_AT_UNKNOWN
        if (arguments[n].tag == KUIPER_MISSING) {
            crash();
        }
#endif
    }
    (void)arguments;
    return KUIPER_OK;
}

void *volatile leaked;

static uint32_t call(void *self, const kuiper_context *context, const kuiper_batch *arguments, const kuiper_output *output,
    const kuiper_fault *fault) {
    size_t row;
    uint32_t code = alone(fault);
    (void)self;
    (void)context;
#ifdef ONE_TOO_FEW
    output->put(output, arguments->values, arguments->height - 1);
    return KUIPER_OK;
#endif
#ifdef FAILS_AT_MANY
    if (arguments->height > 1000) {
        return kuiper_fail(fault, KUIPER_NEVER, "these are too many");
    }
#endif
#ifdef LEAKS
    leaked = malloc(100);
#endif
    for (row = 0; row < arguments->height; row++) {
        kuiper_value one = arguments->values[row * arguments->width];
#ifdef CRASH_AT_NULL
        if (one.tag == KUIPER_NULL) {
            crash();
        }
#endif
#ifdef CRASH_AT_BYTES
        if (one.tag == KUIPER_BYTES) {
            crash();
        }
#endif
#ifdef PUTS_NO_TEXT
        one = kuiper_text("\xff", 1);
#endif
        output->put(output, &one, 1);
    }
    return code;
}

static const kuiper_function function_table = {
    .size = sizeof function_table,
    .create = create,
    .validate = validate,
    .call = call,
    .destroy = destroy,
};

static const kuiper_example examples[] = {{KUIPER_STR("scalar(7)"),
#ifdef EXAMPLE_IS_WRONG
    KUIPER_STR("8")}};
#else
    KUIPER_STR("7")}};
#endif

static const kuiper_symbol function_symbol = {
    .size = sizeof function_symbol,
    .kind = KUIPER_FUNCTION,
    .name = KUIPER_STR("scalar"),
    .table = &function_table,
#ifdef SIGNATURE_IS_WRONG
    .signature = KUIPER_STR("any, any"),
#else
    .signature = KUIPER_STR("(any) -> any"),
#endif
    .examples = examples,
    .examples_count = 1,
};

static int64_t shared;

static void *start(void *self, const kuiper_fault *fault) {
    (void)self;
    (void)fault;
#ifdef GROUPS_ARE_ONE
    return &shared;
#endif
    return calloc(1, sizeof(int64_t));
}

static uint32_t add(
    void *self, const kuiper_context *context, void *group, const kuiper_batch *arguments, const kuiper_fault *fault) {
    (void)self;
    (void)context;
#ifdef CRASH_AT_NULL
    if (arguments->height && arguments->values[0].tag == KUIPER_NULL) {
        crash();
    }
#endif
#ifdef CRASH_AT_BYTES
    if (arguments->height && arguments->values[0].tag == KUIPER_BYTES) {
        crash();
    }
#endif
#ifdef FAILS_AT_MANY
    if (arguments->height > 1000) {
        return kuiper_fail(fault, KUIPER_NEVER, "these are too many");
    }
#endif
    *(int64_t *)group += (int64_t)arguments->height;
    return alone(fault);
}

static uint32_t result(
    void *self, const kuiper_context *context, void *group, const kuiper_output *output, const kuiper_fault *fault) {
    kuiper_value count = kuiper_int(*(int64_t *)group);
    (void)self;
    (void)context;
    (void)fault;
#ifdef CRASH_AT_NOTHING
    if (!count.data.int_value) {
        crash();
    }
#endif
#ifdef TWO_RESULTS
    output->put(output, &count, 1);
#endif
#ifdef RESULT_ENDS
    *(int64_t *)group = 0;
#endif
    output->put(output, &count, 1);
    return KUIPER_OK;
}

static uint32_t save(
    void *self, const kuiper_context *context, void *group, const kuiper_output *output, const kuiper_fault *fault) {
    kuiper_value count = kuiper_int(*(int64_t *)group);
#ifdef SAVES_ANOTHER
    count = kuiper_int(1);
#endif
    (void)self;
    (void)context;
    (void)fault;
    output->put(output, &count, 1);
    return KUIPER_OK;
}

static void *load(void *self, const kuiper_value *saved, const kuiper_fault *fault) {
    int64_t *group = start(self, fault);
    *group = saved->data.int_value;
    return group;
}

static void discard(void *self, void *group) {
    (void)self;
    (void)group;
#if !defined(GROUPS_ARE_ONE) && !defined(LEAKS)
    free(group);
#endif
}

static const kuiper_function group_table = {
    .size = sizeof group_table,
    .create = create,
    .start = start,
    .add = add,
    .result = result,
    .save = save,
#ifndef NO_LOAD
    .load = load,
#endif
    .discard = discard,
    .destroy = destroy,
};

static const kuiper_symbol group_symbol = {
    .size = sizeof group_symbol,
    .kind = KUIPER_FUNCTION,
    .flags = KUIPER_AGGREGATE,
    .name = KUIPER_STR("group_of"),
    .table = &group_table,
    .signature = KUIPER_STR("(any) -> int"),
};

static const kuiper_symbol *const symbols[] = {&sink_symbol, &source_symbol, &pull_symbol, &function_symbol, &group_symbol};

static const kuiper_plugin plugin = {
    .size = sizeof plugin,
    .abi = KUIPER_ABI_VERSION,
    .name = KUIPER_STR("broken"),
    .version = KUIPER_STR("1.0.0"),
    .sdk = KUIPER_STR("c"),
    .symbols = symbols,
    .count = sizeof symbols / sizeof *symbols,
};

const void *unused[] = {&shared, (const void *)crash, (const void *)load};

KUIPER_EXPORT(plugin)
