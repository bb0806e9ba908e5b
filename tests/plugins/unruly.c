/* A plugin that does on demand what no plugin should: a function, an aggregate, a sink and two sources.
 *
 * A command is a word, and where it is followed by `@` and a path only done when there is a file of that path, which is removed, so that
 * it happens once. What a call does is written down nowhere: the tests see what the engine makes of it.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kuiper.h"

__attribute__((visibility("default"))) const unsigned char KUIPER_PLUGIN_ABI[16] = KUIPER_MARKER;

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}

static kuiper_str text(const char *from) {
    kuiper_str made = {(const uint8_t *)from, strlen(from)};
    return made;
}

static kuiper_value integer(int64_t number) {
    kuiper_value made = {KUIPER_INT, 0, 0, {.int_value = number}};
    return made;
}

/* Numbers come from JSON as floats. */
static int64_t whole(const kuiper_value *value) {
    return value->tag == KUIPER_FLOAT ? (int64_t)value->data.float_value : value->tag == KUIPER_INT ? value->data.int_value : 0;
}

static volatile int sunk;

static int deeper(int depth) {
    volatile char room[4096];
    room[0] = (char)depth;
    sunk = room[0];
    return sunk == -1000 ? 0 : deeper(depth + 1) + room[0];
}

static void obey(const kuiper_context *context, const kuiper_value *command) {
    char word[512];
    if (command->tag != KUIPER_TEXT || command->len >= sizeof word) {
        return;
    }
    memcpy(word, command->data.pointer, command->len);
    word[command->len] = 0;
    char *path = strchr(word, '@');
    if (path != NULL) {
        *path++ = 0;
        if (unlink(path) != 0) {
            return;
        }
    }
    if (strcmp(word, "segfault") == 0) {
        *(volatile int *)0 = 1;
    } else if (strcmp(word, "abort") == 0) {
        fprintf(stderr, "as asked\n");
        abort();
    } else if (strcmp(word, "loop") == 0) {
        for (;;) {
            sunk++;
        }
    } else if (strcmp(word, "kill") == 0) {
        kill(getpid(), SIGKILL);
    } else if (strcmp(word, "exit") == 0) {
        exit(0);
    } else if (strcmp(word, "overflow") == 0) {
        sunk = deeper(0);
    } else if (strcmp(word, "close") == 0) {
        for (int fd = 0; fd < 1024; fd++) {
            close(fd);
        }
    } else if (strcmp(word, "hog") == 0) {
        for (;;) {
            char *some = malloc(16 << 20);
            if (some == NULL) {
                fprintf(stderr, "no memory is left\n");
                abort();
            }
            some[0] = 1;
        }
    } else if (strcmp(word, "flood") == 0) {
        for (int line = 0; line < 20000; line++) {
            context->log(context, KUIPER_LOG_INFO, text("a line of the flood"));
        }
    } else if (strcmp(word, "print") == 0) {
        for (int line = 0; line < 20000; line++) {
            printf("a printed line of the flood\n");
        }
        fflush(stdout);
    }
}

static const kuiper_value *member(const kuiper_value *object, const char *name) {
    static const kuiper_value none = {KUIPER_NULL, 0, 0, {0}};
    const kuiper_member *members = object->data.pointer;
    for (uint64_t n = 0; object->tag == KUIPER_OBJECT && n < object->len; n++) {
        if (members[n].key.len == strlen(name) && memcmp(members[n].key.pointer, name, members[n].key.len) == 0) {
            return &members[n].value;
        }
    }
    return &none;
}

static char *copied(const kuiper_value *value) {
    return value->tag == KUIPER_TEXT ? strndup(value->data.pointer, value->len) : strdup("");
}

static const kuiper_value *cell(const kuiper_batch *rows, size_t row, const char *name) {
    for (size_t column = 0; column < rows->width; column++) {
        if (rows->columns[column].len == strlen(name) && memcmp(rows->columns[column].pointer, name, strlen(name)) == 0) {
            return &rows->values[row * rows->width + column];
        }
    }
    return NULL;
}

static uint32_t done(void *self, const kuiper_context *context, const kuiper_fault *fault) {
    (void)self, (void)context, (void)fault;
    return KUIPER_OK;
}

/* Gives back its argument, when it could obey it. */
static void *create_function(void *data, const kuiper_fault *fault) {
    (void)data, (void)fault;
    return malloc(1);
}

static uint32_t call(void *self, const kuiper_context *context, const kuiper_batch *rows, const kuiper_output *output, const kuiper_fault *fault) {
    (void)self, (void)fault;
    for (size_t row = 0; row < rows->height; row++) {
        obey(context, &rows->values[row * rows->width]);
        output->put(output, &rows->values[row * rows->width], 1);
    }
    return KUIPER_OK;
}

static const kuiper_function function = {.size = sizeof(kuiper_function), .create = create_function, .call = call, .destroy = free};

/* How many rows it has seen, by the engine's count; it is counted before the row is obeyed. */
static uint32_t call_counted(void *self, const kuiper_context *context, const kuiper_batch *rows, const kuiper_output *output, const kuiper_fault *fault) {
    (void)self, (void)fault;
    for (size_t row = 0; row < rows->height; row++) {
        kuiper_value seen = integer(context->count(context, text("rows"), 1));
        obey(context, &rows->values[row * rows->width]);
        output->put(output, &seen, 1);
    }
    return KUIPER_OK;
}

static const kuiper_function counted = {.size = sizeof(kuiper_function), .create = create_function, .call = call_counted, .destroy = free};

/* How often it has seen that number, each counted under a key of its own. */
static uint32_t call_kept(void *self, const kuiper_context *context, const kuiper_batch *rows, const kuiper_output *output, const kuiper_fault *fault) {
    (void)self, (void)fault;
    for (size_t row = 0; row < rows->height; row++) {
        char key[32];
        snprintf(key, sizeof key, "number %lld", (long long)whole(&rows->values[row * rows->width]));
        kuiper_value times = integer(context->count(context, text(key), 1));
        output->put(output, &times, 1);
    }
    return KUIPER_OK;
}

static const kuiper_function kept = {.size = sizeof(kuiper_function), .create = create_function, .call = call_kept, .destroy = free};

/* Adds one, a batch at a time. */
static uint32_t plus_one(void *self, const kuiper_context *context, const kuiper_batch *rows, const kuiper_output *output, const kuiper_fault *fault) {
    (void)self, (void)context, (void)fault;
    kuiper_value sums[256];
    for (size_t row = 0; row < rows->height;) {
        size_t some = 0;
        for (; some < 256 && row < rows->height; some++, row++) {
            sums[some] = integer(whole(&rows->values[row * rows->width]) + 1);
        }
        output->put(output, sums, some);
    }
    return KUIPER_OK;
}

static const kuiper_function plus = {.size = sizeof(kuiper_function), .create = create_function, .call = plus_one, .destroy = free};

/* Sums numbers; a command among them is obeyed. */
static void *start(void *self, const kuiper_fault *fault) {
    (void)self, (void)fault;
    return calloc(1, sizeof(int64_t));
}

static uint32_t add(void *self, const kuiper_context *context, void *group, const kuiper_batch *rows, const kuiper_fault *fault) {
    (void)self, (void)fault;
    for (size_t row = 0; row < rows->height; row++) {
        const kuiper_value *value = &rows->values[row * rows->width];
        obey(context, value);
        *(int64_t *)group += whole(value);
    }
    return KUIPER_OK;
}

static uint32_t result(void *self, const kuiper_context *context, void *group, const kuiper_output *output, const kuiper_fault *fault) {
    (void)self, (void)context, (void)fault;
    kuiper_value sum = integer(*(int64_t *)group);
    output->put(output, &sum, 1);
    return KUIPER_OK;
}

static void *load(void *self, const kuiper_value *saved, const kuiper_fault *fault) {
    int64_t *group = start(self, fault);
    *group = saved->data.int_value;
    return group;
}

static void discard(void *self, void *group) {
    (void)self;
    free(group);
}

static const kuiper_function sum = {
    .size = sizeof(kuiper_function), .create = create_function, .start = start, .add = add, .result = result, .save = result, .load = load, .discard = discard, .destroy = free};

/* The rows of a group, by the engine's count. */
static uint32_t add_counted(void *self, const kuiper_context *context, void *group, const kuiper_batch *rows, const kuiper_fault *fault) {
    for (size_t row = 0; row < rows->height; row++) {
        context->count(context, text("rows"), 1);
    }
    return add(self, context, group, rows, fault);
}

static uint32_t result_counted(void *self, const kuiper_context *context, void *group, const kuiper_output *output, const kuiper_fault *fault) {
    (void)self, (void)group, (void)fault;
    kuiper_value seen = integer(context->count(context, text("rows"), 0));
    output->put(output, &seen, 1);
    return KUIPER_OK;
}

static const kuiper_function counts = {
    .size = sizeof(kuiper_function), .create = create_function, .start = start, .add = add_counted, .result = result_counted, .save = result, .load = load, .discard = discard, .destroy = free};

/* Adds a line with the number of each row to a file, after it has obeyed the row. With `back` it says where it stands, and then the number is
 * that of the engine's count. */
typedef struct {
    char *path, *last;
    int file, back;
} sink;

static void *create_sink(void *data, const kuiper_fault *fault) {
    (void)data, (void)fault;
    sink *made = calloc(1, sizeof(sink));
    made->file = -1;
    return made;
}

static uint32_t provision_sink(void *self, const kuiper_context *context, const kuiper_value *properties, const kuiper_fault *fault) {
    (void)context, (void)fault;
    free(((sink *)self)->path);
    ((sink *)self)->path = copied(member(properties, "path"));
    ((sink *)self)->back = member(properties, "back")->tag == KUIPER_BOOL && member(properties, "back")->data.int_value;
    return KUIPER_OK;
}

static uint32_t connect_sink(void *self, const kuiper_context *context, const kuiper_fault *fault) {
    sink *it = self;
    it->file = open(it->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (it->file < 0) {
        fault->set(fault, KUIPER_LATER, text("the file cannot be opened"));
        return KUIPER_LATER;
    }
    context->status(context, KUIPER_CONNECTED, text(""));
    return KUIPER_OK;
}

static uint32_t write_row(sink *it, const kuiper_context *context, const kuiper_batch *rows, size_t row, const kuiper_fault *fault) {
    const kuiper_value *command = cell(rows, row, "do"), *number = cell(rows, row, "n");
    if (command != NULL && command->tag == KUIPER_TEXT && command->len > 5 && memcmp(command->data.pointer, "last:", 5) == 0) {
        free(it->last);
        it->last = strndup((const char *)command->data.pointer + 5, command->len - 5);
    } else if (command != NULL) {
        obey(context, command);
    }
    char line[32];
    int64_t which = it->back ? context->count(context, text("rows"), 1) - 1 : number == NULL ? -1 : whole(number);
    int length = snprintf(line, sizeof line, "%lld\n", (long long)which);
    if (write(it->file, line, (size_t)length) != length) {
        fault->set(fault, KUIPER_LATER, text("the file cannot be written"));
        return KUIPER_LATER;
    }
    return KUIPER_OK;
}

static uint32_t collect(void *self, const kuiper_context *context, const kuiper_batch *rows, size_t *taken, const kuiper_fault *fault) {
    for (*taken = 0; *taken < rows->height; ++*taken) {
        uint32_t code = write_row(self, context, rows, *taken, fault);
        if (code != KUIPER_OK) {
            return code;
        }
    }
    return KUIPER_OK;
}

static uint32_t collect_list(void *self, const kuiper_context *context, const kuiper_batch *rows, const kuiper_fault *fault) {
    size_t taken;
    return collect(self, context, rows, &taken, fault);
}

/* Where the file ends; a command that was to wait for the end of a delivery is obeyed before. */
static uint32_t position_sink(void *self, const kuiper_context *context, const kuiper_output *output, const kuiper_fault *fault) {
    (void)fault;
    sink *it = self;
    if (it->last != NULL) {
        kuiper_value command = {KUIPER_TEXT, 0, strlen(it->last), {.pointer = it->last}};
        obey(context, &command);
    }
    if (it->back) {
        kuiper_value end = integer((int64_t)lseek(it->file, 0, SEEK_END));
        output->put(output, &end, 1);
    }
    return KUIPER_OK;
}

static uint32_t resume_sink(void *self, const kuiper_context *context, const kuiper_value *position, const kuiper_fault *fault) {
    (void)context;
    if (ftruncate(((sink *)self)->file, (off_t)whole(position)) != 0) {
        fault->set(fault, KUIPER_NEVER, text("the file cannot be cut"));
        return KUIPER_NEVER;
    }
    return KUIPER_OK;
}

static uint32_t close_sink(void *self, const kuiper_context *context, const kuiper_fault *fault) {
    (void)context, (void)fault;
    close(((sink *)self)->file);
    ((sink *)self)->file = -1;
    return KUIPER_OK;
}

static void destroy_sink(void *self) {
    free(((sink *)self)->path);
    free(((sink *)self)->last);
    free(self);
}

static const kuiper_sink sink_table = {
    .size = sizeof(kuiper_sink), .create = create_sink, .provision = provision_sink, .connect = connect_sink, .collect = collect, .collect_list = collect_list, .close = close_sink, .destroy = destroy_sink, .position = position_sink, .resume = resume_sink};

/* Emits `n` from 1 to `count`, and obeys `do` when it has emitted `at`; with `thread`, from a thread of its own. */
typedef struct {
    int64_t next, count, at;
    int threaded;
    kuiper_value command;
    const kuiper_context *context;
    pthread_t thread;
    int running;
} source;

static void *create_source(void *data, const kuiper_fault *fault) {
    (void)data, (void)fault;
    source *made = calloc(1, sizeof(source));
    made->next = 1;
    return made;
}

static uint32_t provision_source(void *self, const kuiper_context *context, const kuiper_value *properties, const kuiper_fault *fault) {
    (void)context, (void)fault;
    source *it = self;
    it->count = whole(member(properties, "count"));
    it->at = whole(member(properties, "at"));
    it->threaded = member(properties, "thread")->tag == KUIPER_BOOL && member(properties, "thread")->data.int_value;
    char *command = copied(member(properties, "do"));
    it->command = (kuiper_value){KUIPER_TEXT, 0, strlen(command), {.pointer = command}};
    return KUIPER_OK;
}

static uint32_t rewind_source(void *self, const kuiper_context *context, const kuiper_value *position, const kuiper_fault *fault) {
    (void)context, (void)fault;
    ((source *)self)->next = position->data.int_value + 1;
    return KUIPER_OK;
}

static void emit_all(source *it, const kuiper_context *context) {
    static const kuiper_str column = TEXT("n");
    while (it->next <= it->count) {
        kuiper_value number = integer(it->next);
        kuiper_batch rows = {.size = sizeof rows, .columns = &column, .width = 1, .height = 1, .values = &number};
        kuiper_emission emission = {.size = sizeof emission, .position = &number};
        if (context->emit_rows_with(context, &rows, &emission) != KUIPER_OK || context->wait(context, 200000) == 1) {
            return;
        }
        if (it->next == it->at) {
            obey(context, &it->command);
        }
        it->next++;
    }
    while (context->wait(context, 1000000000) == 0) {
    }
}

static void *emitting(void *self) {
    source *it = self;
    emit_all(it, it->context);
    it->context->release(it->context);
    return NULL;
}

static uint32_t subscribe(void *self, const kuiper_context *context, const kuiper_fault *fault) {
    (void)fault;
    source *it = self;
    if (!it->threaded) {
        emit_all(it, context);
        return KUIPER_OK;
    }
    context->retain(context);
    it->context = context;
    it->running = pthread_create(&it->thread, NULL, emitting, it) == 0;
    return KUIPER_OK;
}

static uint32_t close_source(void *self, const kuiper_context *context, const kuiper_fault *fault) {
    (void)context, (void)fault;
    source *it = self;
    if (it->running) {
        pthread_join(it->thread, NULL);
        it->running = 0;
    }
    return KUIPER_OK;
}

static const kuiper_source source_table = {
    .size = sizeof(kuiper_source), .create = create_source, .provision = provision_source, .connect = done, .subscribe = subscribe, .close = close_source, .destroy = free, .rewind = rewind_source};

static const kuiper_property path_property = {sizeof(kuiper_property), KUIPER_REQUIRED, TEXT("path"), TEXT("file"), TEXT("a text"), TEXT("")};
static const kuiper_property back_property = {sizeof(kuiper_property), 0, TEXT("back"), TEXT("whether"), TEXT("true or false"), TEXT("false")};
static const kuiper_property count_property = {sizeof(kuiper_property), 0, TEXT("count"), TEXT("how many"), TEXT("an integer"), TEXT("0")};
static const kuiper_property at_property = {sizeof(kuiper_property), 0, TEXT("at"), TEXT("when"), TEXT("an integer"), TEXT("0")};
static const kuiper_property do_property = {sizeof(kuiper_property), 0, TEXT("do"), TEXT("what"), TEXT("a text"), TEXT("\"\"")};
static const kuiper_property thread_property = {sizeof(kuiper_property), 0, TEXT("thread"), TEXT("how"), TEXT("true or false"), TEXT("false")};
static const kuiper_property *const sink_properties[] = {&path_property, &back_property};
static const kuiper_property *const source_properties[] = {&count_property, &at_property, &do_property, &thread_property};
static const kuiper_example example = {TEXT("unruly('a')"), TEXT("\"a\"")};

#define SYMBOL .size = sizeof(kuiper_symbol), .exported = KUIPER_CONSTRUCTOR
static const kuiper_symbol unruly = {SYMBOL, .kind = KUIPER_FUNCTION, .name = TEXT("unruly"), .about = TEXT("Does as it is told."), .table = &function, .signature = TEXT("(any) -> any"), .examples = &example, .examples_count = 1};
static const kuiper_symbol shared = {.size = sizeof(kuiper_symbol), .exported = KUIPER_SINGLETON, .kind = KUIPER_FUNCTION, .name = TEXT("unrulyShared"), .about = TEXT("The same, one for all."), .table = &function, .signature = TEXT("(any) -> any")};
static const kuiper_symbol seen = {SYMBOL, .kind = KUIPER_FUNCTION, .name = TEXT("unrulySeen"), .about = TEXT("Counts."), .table = &counted, .signature = TEXT("(any) -> int")};
static const kuiper_symbol keeps = {SYMBOL, .kind = KUIPER_FUNCTION, .name = TEXT("unrulyKept"), .about = TEXT("Counts each number."), .table = &kept, .signature = TEXT("(any) -> int")};
static const kuiper_symbol group_seen = {SYMBOL, .kind = KUIPER_FUNCTION, .flags = KUIPER_AGGREGATE, .name = TEXT("unrulyCount"), .about = TEXT("Counts."), .table = &counts, .signature = TEXT("(any) -> int")};
static const kuiper_symbol plusone = {SYMBOL, .kind = KUIPER_FUNCTION, .name = TEXT("plusOne"), .about = TEXT("Adds one."), .table = &plus, .signature = TEXT("(int) -> int")};
static const kuiper_symbol sums = {SYMBOL, .kind = KUIPER_FUNCTION, .flags = KUIPER_AGGREGATE, .name = TEXT("unrulySum"), .about = TEXT("Sums."), .table = &sum, .signature = TEXT("(any) -> int")};
static const kuiper_symbol writes = {SYMBOL, .kind = KUIPER_SINK, .flags = KUIPER_ONE_AS_ROW, .name = TEXT("Unruly"), .about = TEXT("Writes numbers."), .table = &sink_table, .properties = sink_properties, .properties_count = 2};
static const kuiper_symbol emits = {SYMBOL, .kind = KUIPER_SOURCE, .name = TEXT("Unruly"), .about = TEXT("Counts."), .table = &source_table, .properties = source_properties, .properties_count = 4};
static const kuiper_symbol *const symbols[] = {&unruly, &shared, &plusone, &sums, &writes, &emits, &seen, &group_seen, &keeps};

__attribute__((visibility("default"))) const kuiper_plugin *kuiper_plugin_v1(void) {
    static const kuiper_plugin plugin = {sizeof plugin, KUIPER_ABI_VERSION, TEXT("unruly"), TEXT("1.0.0"), TEXT("c"), symbols, 9};
    if (getenv("UNRULY_AT_LOAD") != NULL) {
        abort();
    }
    return &plugin;
}
