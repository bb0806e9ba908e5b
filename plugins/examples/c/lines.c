/* The sink `lines`: appends each row to a file, as a line of JSON. */
#include "kuiper_easy.h"

#include <errno.h>

struct lines {
    char *path;
    char *prefix;
    FILE *file;
};

static const kuiper_property path_property = {
    sizeof(kuiper_property), KUIPER_REQUIRED, KUIPER_STR("path"), KUIPER_STR("The file; it is made where it is missing."),
    KUIPER_STR("a text"), KUIPER_STR("")};
static const kuiper_property prefix_property = {
    sizeof(kuiper_property), 0, KUIPER_STR("prefix"), KUIPER_STR("What stands in front of each line."), KUIPER_STR("a text"),
    KUIPER_STR("\"\"")};
static const kuiper_property *const properties[] = {&path_property, &prefix_property};

static const kuiper_symbol symbol;

static void *create(void *data, const kuiper_fault *fault) {
    struct lines *lines = calloc(1, sizeof *lines);
    (void)data;
    if (!lines) {
        kuiper_fail(fault, KUIPER_LATER, "no memory");
    }
    return lines;
}

/* No input or output here: it is also called to validate a rule that never runs. */
static uint32_t provision(void *self, const kuiper_context *context, const kuiper_value *given, const kuiper_fault *fault) {
    struct lines *lines = self;
    uint32_t code = kuiper_check(&symbol, given, fault);
    (void)context;
    if (code == KUIPER_OK) {
        code = kuiper_text_property(given, "path", &lines->path, fault);
    }
    return code == KUIPER_OK ? kuiper_text_property(given, "prefix", &lines->prefix, fault) : code;
}

static void shut(struct lines *lines) {
    if (lines->file) {
        fclose(lines->file);
        lines->file = NULL;
    }
}

/* KUIPER_LATER is tried again, KUIPER_NEVER is not. After a failure it may be called again, also without `close` in between. */
static uint32_t connect(void *self, const kuiper_context *context, const kuiper_fault *fault) {
    struct lines *lines = self;
    shut(lines);
    lines->file = fopen(lines->path, "ab");
    if (!lines->file) {
        return kuiper_fail(fault, KUIPER_LATER, "cannot open `%s`: %s", lines->path, strerror(errno));
    }
    kuiper_status(context, KUIPER_CONNECTED, "");
    return KUIPER_OK;
}

/* Writes rows in one go. */
static uint32_t write_rows(struct lines *lines, const kuiper_batch *rows, const kuiper_fault *fault) {
    const char *prefix = lines->prefix ? lines->prefix : "";
    kuiper_buffer text = {NULL, 0, 0, 0};
    uint32_t code = KUIPER_OK;
    size_t row;
    if (!lines->file) {
        return kuiper_fail(fault, KUIPER_BUG, "it is not connected");
    }
    for (row = 0; row < rows->height; row++) {
        kuiper_add(&text, prefix, strlen(prefix));
        kuiper_json_row(&text, rows, row);
        kuiper_add(&text, "\n", 1);
    }
    if (text.failed) {
        code = kuiper_fail(fault, KUIPER_LATER, "no memory for %zu rows", rows->height);
    } else if (fwrite(text.bytes, 1, text.len, lines->file) != text.len || fflush(lines->file)) {
        code = kuiper_fail(fault, KUIPER_LATER, "cannot write to `%s`: %s", lines->path, strerror(errno));
    }
    free(text.bytes);
    return code;
}

/* Rows that have nothing to do with each other; done says how many were taken before the one that failed. */
static uint32_t collect(
    void *self, const kuiper_context *context, const kuiper_batch *rows, size_t *done, const kuiper_fault *fault) {
    uint32_t code = write_rows(self, rows, fault);
    (void)context;
    *done = code == KUIPER_OK ? rows->height : 0;
    return code;
}

/* Rows that belong together, as those of a window. */
static uint32_t collect_list(void *self, const kuiper_context *context, const kuiper_batch *rows, const kuiper_fault *fault) {
    (void)context;
    return write_rows(self, rows, fault);
}

static uint32_t close_file(void *self, const kuiper_context *context, const kuiper_fault *fault) {
    (void)context;
    (void)fault;
    shut(self);
    return KUIPER_OK;
}

static void destroy(void *self) {
    struct lines *lines = self;
    shut(lines);
    free(lines->path);
    free(lines->prefix);
    free(lines);
}

static const kuiper_sink table = {
    .size = sizeof table,
    .create = create,
    .provision = provision,
    .connect = connect,
    .collect = collect,
    .collect_list = collect_list,
    .close = close_file,
    .destroy = destroy,
};

static const kuiper_symbol symbol = {
    .size = sizeof symbol,
    .kind = KUIPER_SINK,
    .exported = KUIPER_CONSTRUCTOR,
    .name = KUIPER_STR("Lines"),
    .about = KUIPER_STR("Appends each row to a file, as a line of JSON."),
    .table = &table,
    .properties = properties,
    .properties_count = sizeof properties / sizeof *properties,
};

static const kuiper_symbol *const symbols[] = {&symbol};

static const kuiper_plugin plugin = {
    .size = sizeof plugin,
    .abi = KUIPER_ABI_VERSION,
    .name = KUIPER_STR("lines"),
    .version = KUIPER_STR("1.0.0"),
    .sdk = KUIPER_STR("c"),
    .symbols = symbols,
    .count = sizeof symbols / sizeof *symbols,
};

KUIPER_EXPORT(plugin)
KUIPER_SYMBOLS("sink Lines")
