// Times a model's runs through onnxruntime's C API, with inputs and outputs that are allocated once.
//
// timed LIBRARY MODEL WARMUP SECONDS INPUT...: the inputs are raw float32 files in the order of the model's inputs, whose shapes are fixed.
// Prints {"ns": [each run's nanoseconds], "sum": sum of all outputs' absolute values}.

#include <dlfcn.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "onnxruntime_c_api.h"

enum { MOST_TENSORS = 16, MOST_AXES = 8, ALIGNMENT = 64, LEAST_ITERATIONS = 5 };

static const OrtApi *api;

static void die(const char *what, const char *why) {
    fprintf(stderr, "timed: %s: %s\n", what, why);
    exit(1);
}

static void check(OrtStatus *status, const char *what) {
    if (status) die(what, api->GetErrorMessage(status));
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

// A tensor of the shape and type that the model says, over memory of our own, which stays here until the process ends.
static OrtValue *tensor(OrtTypeInfo *type, const OrtMemoryInfo *memory, float **data, size_t *count) {
    const OrtTensorTypeAndShapeInfo *info;
    ONNXTensorElementDataType element;
    int64_t shape[MOST_AXES];
    size_t axes;
    check(api->CastTypeInfoToTensorInfo(type, &info), "tensor");
    if (!info) die("tensor", "only tensors will do");
    check(api->GetTensorElementType(info, &element), "tensor");
    check(api->GetDimensionsCount(info, &axes), "tensor");
    if (element != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT || axes > MOST_AXES) die("tensor", "only float32 of at most 8 axes will do");
    check(api->GetDimensions(info, shape, axes), "tensor");
    *count = 1;
    for (size_t axis = 0; axis < axes; axis++) {
        if (shape[axis] < 1) die("tensor", "an axis is open");
        *count *= (size_t)shape[axis];
    }
    size_t bytes = (*count * sizeof(float) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    *data = aligned_alloc(ALIGNMENT, bytes);
    if (!*data) die("tensor", "no memory");
    OrtValue *value;
    check(api->CreateTensorWithDataAsOrtValue(memory, *data, *count * sizeof(float), shape, axes, element, &value), "tensor");
    api->ReleaseTypeInfo(type);
    return value;
}

static void read_file(const char *path, float *data, size_t count) {
    FILE *file = fopen(path, "rb");
    if (!file) die(path, "can't be read");
    if (fread(data, sizeof(float), count, file) != count || fgetc(file) != EOF) die(path, "is not of the input's size");
    fclose(file);
}

int main(int argc, char **argv) {
    if (argc < 6) die("usage", "timed LIBRARY MODEL WARMUP SECONDS INPUT...");
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) die("library", dlerror());
    const OrtApiBase *(*base)(void) = (const OrtApiBase *(*)(void))dlsym(library, "OrtGetApiBase");
    if (!base) die("library", dlerror());
    api = base()->GetApi(ORT_API_VERSION);
    if (!api) die("library", "it does not have the header's version of the API");

    OrtEnv *environment;
    OrtSessionOptions *options;
    OrtSession *session;
    OrtMemoryInfo *memory;
    OrtAllocator *allocator;
    check(api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "timed", &environment), "environment");
    check(api->CreateSessionOptions(&options), "options");
    check(api->SetIntraOpNumThreads(options, 1), "options");
    check(api->SetInterOpNumThreads(options, 1), "options");
    check(api->CreateSession(environment, argv[2], options, &session), "session");
    check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory), "memory");
    check(api->GetAllocatorWithDefaultOptions(&allocator), "memory");

    size_t inputs, outputs, counts[MOST_TENSORS];
    char *input_names[MOST_TENSORS], *output_names[MOST_TENSORS];
    float *input_data[MOST_TENSORS], *output_data[MOST_TENSORS];
    OrtValue *input_values[MOST_TENSORS], *output_values[MOST_TENSORS];
    OrtTypeInfo *type;
    check(api->SessionGetInputCount(session, &inputs), "inputs");
    check(api->SessionGetOutputCount(session, &outputs), "outputs");
    if (inputs > MOST_TENSORS || outputs > MOST_TENSORS) die("model", "too many inputs or outputs");
    if (inputs != (size_t)argc - 5) die("usage", "one file for each input");
    for (size_t i = 0; i < inputs; i++) {
        check(api->SessionGetInputName(session, i, allocator, &input_names[i]), "inputs");
        check(api->SessionGetInputTypeInfo(session, i, &type), "inputs");
        input_values[i] = tensor(type, memory, &input_data[i], &counts[i]);
        read_file(argv[5 + i], input_data[i], counts[i]);
    }
    for (size_t i = 0; i < outputs; i++) {
        check(api->SessionGetOutputName(session, i, allocator, &output_names[i]), "outputs");
        check(api->SessionGetOutputTypeInfo(session, i, &type), "outputs");
        output_values[i] = tensor(type, memory, &output_data[i], &counts[i]);
    }

    const char *const *given = (const char *const *)input_names, *const *made = (const char *const *)output_names;
    const OrtValue *const *values = (const OrtValue *const *)input_values;
    int64_t begun = now(), warmup = (int64_t)(atof(argv[3]) * 1e9), enough = (int64_t)(atof(argv[4]) * 1e9);
    for (int run = 0; run < LEAST_ITERATIONS || now() - begun < warmup; run++)
        check(api->Run(session, NULL, given, values, inputs, made, outputs, output_values), "run");

    size_t taken = 0, room = 1 << 16;
    int64_t *samples = malloc(room * sizeof *samples);
    if (!samples) die("samples", "no memory");
    int64_t before = begun = now();
    while (taken < LEAST_ITERATIONS || before - begun < enough) {
        before = now();
        OrtStatus *status = api->Run(session, NULL, given, values, inputs, made, outputs, output_values);
        int64_t after = now();
        check(status, "run");
        samples[taken++] = after - before;
        if (taken == room && !(samples = realloc(samples, (room *= 2) * sizeof *samples))) die("samples", "no memory");
    }

    double sum = 0;
    for (size_t i = 0; i < outputs; i++)
        for (size_t k = 0; k < counts[i]; k++) sum += fabs(output_data[i][k]);
    printf("{\"ns\": [");
    for (size_t i = 0; i < taken; i++) printf(i ? ", %lld" : "%lld", (long long)samples[i]);
    printf("], \"sum\": %.9g}\n", sum);
    // Without the library's destructors: threads of its own may still run.
    fflush(stdout);
    _Exit(0);
}
