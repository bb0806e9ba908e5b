/* What a plugin of kuiper is written against, in C. The same as src/abi.rs, where the rules stand; a test compares both.
 *
 * In short: every struct that can grow starts with its size, and fields are only appended: check that `size` reaches a field before
 * using it, and check pointers to functions against NULL. Text is pointer and length, UTF-8, never ended by NUL. What a pointer leads to
 * is borrowed for the call; what you hand over is copied. Nothing may be thrown over the line. An instance is called by one thread at a
 * time; the functions of a context may be called by any thread.
 *
 * A library exports one function, `kuiper_plugin_v1`, and one variable, `KUIPER_PLUGIN_ABI` (see KUIPER_MARKER); a second variable,
 * `KUIPER_PLUGIN_SYMBOLS` (see KUIPER_SYMBOLS), has a wrong library refused before anything of it is executed.
 */
#ifndef KUIPER_H
#define KUIPER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KUIPER_ABI_MAJOR 1
#define KUIPER_ABI_MINOR 2
#define KUIPER_ABI_VERSION (((uint32_t)KUIPER_ABI_MAJOR << 16) | KUIPER_ABI_MINOR)

/* const unsigned char KUIPER_PLUGIN_ABI[16] = KUIPER_MARKER; read from the file before anything of it is executed */
#define KUIPER_MARKER {'K', 'U', 'I', 'P', 'E', 'R', '.', 'P', KUIPER_ABI_MAJOR, 0, KUIPER_ABI_MINOR, 0, 0, 0, 0, 0}

#if defined(__GNUC__)
#define KUIPER_VISIBLE __attribute__((visibility("default")))
#else
#define KUIPER_VISIBLE
#endif
#ifdef __cplusplus
#define KUIPER_C extern "C"
#else
#define KUIPER_C extern
#endif

/* What the table will hold, a literal with a line for each symbol: KUIPER_SYMBOLS("source Rooms\n" "lookup RoomsLookup\n" "function vowels") */
#define KUIPER_SYMBOLS(lines) \
    KUIPER_C KUIPER_VISIBLE const char KUIPER_PLUGIN_SYMBOLS[sizeof(lines)]; \
    const char KUIPER_PLUGIN_SYMBOLS[sizeof(lines)] = lines;

/* What a call returns. */
enum {
    KUIPER_OK = 0,
    KUIPER_LATER = 1,   /* something outside failed: the same call may succeed later */
    KUIPER_NEVER = 2,   /* the same call can never succeed: the input or the properties are to blame */
    KUIPER_BUG = 3,     /* the plugin is to blame */
    KUIPER_STOPPED = 4  /* the rule is being stopped: return soon */
};

/* What a value is. */
enum {
    KUIPER_NULL = 0,
    KUIPER_BOOL = 1,    /* data.int_value is 0 or 1 */
    KUIPER_INT = 2,     /* data.int_value */
    KUIPER_FLOAT = 3,   /* data.float_value */
    KUIPER_TEXT = 4,    /* data.pointer to len bytes of UTF-8 */
    KUIPER_BYTES = 5,   /* data.pointer to len bytes */
    KUIPER_TIME = 6,    /* data.int_value nanoseconds since 1970 UTC; extra: offset of its zone in seconds east */
    KUIPER_ARRAY = 7,   /* data.pointer to len kuiper_value */
    KUIPER_OBJECT = 8,  /* data.pointer to len kuiper_member */
    KUIPER_MISSING = 9  /* only as a cell of a batch: this row has no such column */
};

/* Kinds of symbols. */
enum { KUIPER_SOURCE = 1, KUIPER_SINK = 2, KUIPER_LOOKUP = 3, KUIPER_FUNCTION = 4 };

/* How instances are made: one for each use, or one for all rules. */
enum { KUIPER_CONSTRUCTOR = 0, KUIPER_SINGLETON = 1 };

/* Flags of symbols and properties. */
enum {
    KUIPER_EMITS_BYTES = 1, /* a source or lookup gives messages that the format decodes */
    KUIPER_PULLED = 2,      /* a source is pulled on each interval, and never subscribed to */
    KUIPER_AGGREGATE = 4,   /* a function takes the rows of a group */
    KUIPER_REQUIRED = 8,    /* a property must be given */
    KUIPER_SECRET = 16,     /* a property is never shown */
    KUIPER_ONE_AS_ROW = 32, /* a sink takes a list of one row as a row */
    KUIPER_DYNAMIC = 64,    /* a sink's property may be a template, evaluated for the rows of each call */
    KUIPER_TAKES_BYTES = 128 /* a sink takes messages that the engine has encoded (collect_bytes); since 1.2 */
};

/* Levels of the log, and states of a connection. */
enum { KUIPER_LOG_ERROR = 1, KUIPER_LOG_WARN = 2, KUIPER_LOG_INFO = 3, KUIPER_LOG_DEBUG = 4 };
enum { KUIPER_DISCONNECTED = 0, KUIPER_CONNECTING = 1, KUIPER_CONNECTED = 2 };

/* In times: the time of the row is that of its arrival. */
#define KUIPER_NO_TIME INT64_MIN

/* Text (UTF-8) or bytes; pointer may be NULL where len is 0. */
typedef struct kuiper_str {
    const uint8_t *pointer;
    size_t len;
} kuiper_str;

typedef union kuiper_data {
    int64_t int_value;
    double float_value;
    const void *pointer;
} kuiper_data;

/* A tagged value of 24 bytes. */
typedef struct kuiper_value {
    uint32_t tag;
    int32_t extra;
    uint64_t len;
    kuiper_data data;
} kuiper_value;

typedef struct kuiper_member {
    kuiper_str key;
    kuiper_value value;
} kuiper_member;

/* Rows by columns. */
typedef struct kuiper_batch {
    uint32_t size;
    uint32_t flags;
    const kuiper_str *columns;  /* width names; NULL for the arguments of a function */
    size_t width;
    size_t height;
    const kuiper_value *values; /* height * width, row after row */
    const int64_t *times;       /* height, or NULL */
    const kuiper_value *metas;  /* height objects, or NULL */
    const kuiper_value *properties; /* for a sink: an object of the templates, evaluated for these rows, or NULL; since 1.1 */
} kuiper_batch;

/* Messages that the stream's format decodes. */
typedef struct kuiper_messages {
    uint32_t size;
    uint32_t flags;
    size_t count;
    const kuiper_str *payloads;
    const int64_t *times;      /* count, or NULL */
    const kuiper_value *metas; /* count objects, or NULL */
    const kuiper_value *properties; /* for a sink: count objects of the templates, evaluated, or NULL; since 1.2 */
} kuiper_messages;

/* What else there is to say of what a source emits; since 1.2. */
typedef struct kuiper_emission {
    uint32_t size;
    uint32_t flags;
    const kuiper_value *position; /* where the source stands after it, for rewind; or NULL */
    uint64_t token;               /* by what acknowledged names it; 0 where nobody wants to know */
} kuiper_emission;

/* Where the text of a failure goes. */
typedef struct kuiper_fault {
    uint32_t size;
    uint32_t reserved;
    void *host;
    void (*set)(const struct kuiper_fault *self, uint32_t code, kuiper_str text);
    void (*row)(const struct kuiper_fault *self, size_t row, uint32_t code, kuiper_str text);
} kuiper_fault;

/* Where values go; it copies what it is handed. */
typedef struct kuiper_output {
    uint32_t size;
    uint32_t reserved;
    void *host;
    void (*put)(const struct kuiper_output *self, const kuiper_value *values, size_t count);
    void (*fail)(const struct kuiper_output *self, kuiper_str text);
} kuiper_output;

/* What the engine offers to one use of a plugin. Valid during the call that hands it over, and as long as it is retained. */
typedef struct kuiper_context {
    uint32_t size;
    uint32_t abi;
    void *host;
    kuiper_str rule;
    kuiper_str op;
    uint64_t site; /* number of the call in the statement */
    void (*retain)(const struct kuiper_context *self);
    void (*release)(const struct kuiper_context *self);
    void (*log)(const struct kuiper_context *self, uint32_t level, kuiper_str text);
    void (*status)(const struct kuiper_context *self, uint32_t status, kuiper_str text);
    uint32_t (*state_get)(const struct kuiper_context *self, kuiper_str key, const kuiper_output *into);
    uint32_t (*state_put)(const struct kuiper_context *self, kuiper_str key, const kuiper_value *value);
    uint32_t (*emit_rows)(const struct kuiper_context *self, const kuiper_batch *batch); /* waits while the rules are busy */
    uint32_t (*emit_bytes)(const struct kuiper_context *self, const kuiper_messages *messages);
    uint32_t (*emit_error)(const struct kuiper_context *self, kuiper_str text);
    uint32_t (*emit_end)(const struct kuiper_context *self);
    uint32_t (*stopped)(const struct kuiper_context *self);
    uint32_t (*wait)(const struct kuiper_context *self, uint64_t nanos);
    /* since 1.2, as all below */
    uint32_t (*emit_rows_with)(const struct kuiper_context *self, const kuiper_batch *batch, const kuiper_emission *emission);
    uint32_t (*emit_bytes_with)(const struct kuiper_context *self, const kuiper_messages *messages, const kuiper_emission *emission);
    /* puts, as integers, tokens that all rules are done with; waits at most so long for the first */
    uint32_t (*acknowledged)(const struct kuiper_context *self, uint64_t nanos, const kuiper_output *into);
    uint32_t (*template_text)(const struct kuiper_context *self, kuiper_str text, const kuiper_value *data, const kuiper_output *into, const kuiper_fault *fault);
    uint32_t (*json_path)(const struct kuiper_context *self, kuiper_str path, const kuiper_value *data, const kuiper_output *into, const kuiper_fault *fault);
    int64_t (*count)(const struct kuiper_context *self, kuiper_str key, int64_t by); /* a counter in the state; by 0 reads it */
    uint32_t (*secret)(const struct kuiper_context *self, kuiper_str name, const kuiper_output *into);
    uint32_t (*folder)(const struct kuiper_context *self, const kuiper_output *into); /* of the plugin's own */
    uint64_t instance; /* which of several instances of the operator this is */
    uint64_t run;      /* how often the rule was started */
} kuiper_context;

/* create, provision, connect, where there is a position rewind, then subscribe once or pull often, close, destroy. */
typedef struct kuiper_source {
    uint32_t size;
    uint32_t reserved;
    void *(*create)(void *data, const kuiper_fault *fault);
    uint32_t (*provision)(void *self, const kuiper_context *context, const kuiper_value *properties, const kuiper_fault *fault);
    uint32_t (*connect)(void *self, const kuiper_context *context, const kuiper_fault *fault);
    uint32_t (*subscribe)(void *self, const kuiper_context *context, const kuiper_fault *fault);
    uint32_t (*pull)(void *self, const kuiper_context *context, int64_t at, const kuiper_fault *fault);
    uint32_t (*close)(void *self, const kuiper_context *context, const kuiper_fault *fault);
    void (*destroy)(void *self);
    /* since 1.2, as all below: back to where an earlier instance stood after an emission with this position */
    uint32_t (*rewind)(void *self, const kuiper_context *context, const kuiper_value *position, const kuiper_fault *fault);
    uint32_t (*reset)(void *self, const kuiper_context *context, const kuiper_value *position, const kuiper_fault *fault);
    uint32_t (*ping)(void *self, const kuiper_context *context, const kuiper_fault *fault); /* after provision, without connect */
} kuiper_source;

/* create, provision, connect, the collects, close, destroy. */
typedef struct kuiper_sink {
    uint32_t size;
    uint32_t reserved;
    void *(*create)(void *data, const kuiper_fault *fault);
    uint32_t (*provision)(void *self, const kuiper_context *context, const kuiper_value *properties, const kuiper_fault *fault);
    uint32_t (*connect)(void *self, const kuiper_context *context, const kuiper_fault *fault);
    /* rows that have nothing to do with each other; done: how many were taken before the one that failed */
    uint32_t (*collect)(void *self, const kuiper_context *context, const kuiper_batch *rows, size_t *done, const kuiper_fault *fault);
    /* rows that belong together: all or none, save those refused by fault->row */
    uint32_t (*collect_list)(void *self, const kuiper_context *context, const kuiper_batch *rows, const kuiper_fault *fault);
    uint32_t (*close)(void *self, const kuiper_context *context, const kuiper_fault *fault);
    void (*destroy)(void *self);
    /* since 1.2, as all below: encoded messages, for KUIPER_TAKES_BYTES; done as in collect */
    uint32_t (*collect_bytes)(void *self, const kuiper_context *context, const kuiper_messages *messages, size_t *done, const kuiper_fault *fault);
    uint32_t (*flush)(void *self, const kuiper_context *context, const kuiper_fault *fault); /* after each run of collects */
    /* where what was taken so far ends; puts nothing where what comes after cannot be taken back */
    uint32_t (*position)(void *self, const kuiper_context *context, const kuiper_output *into, const kuiper_fault *fault);
    /* takes back all that was taken after this position; between connect and the first collect */
    uint32_t (*resume)(void *self, const kuiper_context *context, const kuiper_value *position, const kuiper_fault *fault);
    uint32_t (*ping)(void *self, const kuiper_context *context, const kuiper_fault *fault);
} kuiper_sink;

/* Where a lookup puts what it has found; it copies what it is handed. Since 1.2. */
typedef struct kuiper_answers {
    uint32_t size;
    uint32_t reserved;
    void *host;
    void (*rows)(const struct kuiper_answers *self, size_t question, const kuiper_batch *rows);
    void (*bytes)(const struct kuiper_answers *self, size_t question, const kuiper_messages *messages);
} kuiper_answers;

/* create, provision, connect, the finds, close, destroy. Since 1.2. */
typedef struct kuiper_lookup {
    uint32_t size;
    uint32_t reserved;
    void *(*create)(void *data, const kuiper_fault *fault);
    uint32_t (*provision)(void *self, const kuiper_context *context, const kuiper_value *properties, const kuiper_fault *fault);
    uint32_t (*connect)(void *self, const kuiper_context *context, const kuiper_fault *fault);
    /* keys: columns asked for, one question a row; fields: columns wanted, all where there is none */
    uint32_t (*find)(void *self, const kuiper_context *context, const kuiper_batch *keys, const kuiper_str *fields, size_t fields_count, const kuiper_answers *into, const kuiper_fault *fault);
    uint32_t (*close)(void *self, const kuiper_context *context, const kuiper_fault *fault);
    void (*destroy)(void *self);
    uint32_t (*ping)(void *self, const kuiper_context *context, const kuiper_fault *fault);
} kuiper_lookup;

/* call of a scalar function; start to discard of an aggregate one. */
typedef struct kuiper_function {
    uint32_t size;
    uint32_t reserved;
    void *(*create)(void *data, const kuiper_fault *fault);
    uint32_t (*validate)(void *self, const kuiper_value *arguments, size_t count, const kuiper_fault *fault);
    uint32_t (*call)(void *self, const kuiper_context *context, const kuiper_batch *arguments, const kuiper_output *output, const kuiper_fault *fault);
    void *(*start)(void *self, const kuiper_fault *fault);
    uint32_t (*add)(void *self, const kuiper_context *context, void *group, const kuiper_batch *arguments, const kuiper_fault *fault);
    uint32_t (*result)(void *self, const kuiper_context *context, void *group, const kuiper_output *output, const kuiper_fault *fault);
    uint32_t (*save)(void *self, const kuiper_context *context, void *group, const kuiper_output *output, const kuiper_fault *fault);
    void *(*load)(void *self, const kuiper_value *saved, const kuiper_fault *fault);
    void (*discard)(void *self, void *group);
    void (*destroy)(void *self);
} kuiper_function;

/* A property that a source, sink or lookup knows. */
typedef struct kuiper_property {
    uint32_t size;
    uint32_t flags;
    kuiper_str name;
    kuiper_str about;
    kuiper_str expects;
    kuiper_str default_value; /* JSON; empty where there is none */
} kuiper_property;

/* A call as written in SQL, and its result as JSON. */
typedef struct kuiper_example {
    kuiper_str call;
    kuiper_str result;
} kuiper_example;

/* One thing that a plugin offers. */
typedef struct kuiper_symbol {
    uint32_t size;
    uint32_t kind;
    uint32_t exported; /* KUIPER_CONSTRUCTOR or KUIPER_SINGLETON */
    uint32_t flags;
    kuiper_str name;   /* first letter upper case; of a lookup: the source's and `Lookup`; of a function: the name in SQL */
    kuiper_str about;
    void *data;        /* your own, handed to create */
    const void *table; /* a kuiper_source, kuiper_sink, kuiper_lookup or kuiper_function */
    const kuiper_property *const *properties;
    size_t properties_count;
    kuiper_str signature; /* functions: (float, float) -> text */
    const kuiper_example *examples;
    size_t examples_count;
    uint32_t state_version; /* of the state that it writes; 0: nothing is said of it; since 1.2 */
    uint32_t state_oldest;  /* it can read state from this version to its own; since 1.2 */
} kuiper_symbol;

/* All that a library offers; lives as long as the process. */
typedef struct kuiper_plugin {
    uint32_t size;
    uint32_t abi;
    kuiper_str name;
    kuiper_str version;
    kuiper_str sdk;
    const kuiper_symbol *const *symbols;
    size_t count;
} kuiper_plugin;

const kuiper_plugin *kuiper_plugin_v1(void);

#ifdef __cplusplus
}
#endif
#endif
