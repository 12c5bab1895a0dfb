// The driver's calls on a machine without a GPU: device memory is host memory, a stream runs at
// once or, while it captures, remembers. One kernel is known: scale(float *data, int n, float by).
// FAKE_CUDA_* in the environment make it fail as drivers do.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int R;
typedef struct {
  int kind; void *to; const void *from; size_t size; float *data; int n; float by;
  void (*host)(void *); void *with;
} Op;
typedef struct { Op ops[64]; int count; } Graph;
static Graph *capturing;
static int kernel;

static int env(const char *name, int other) { char *v = getenv(name); return v ? atoi(v) : other; }
static void run(Op *op) {
  if (op->kind == 0) memcpy(op->to, op->from, op->size);
  else if (op->kind == 2) op->host(op->with);
  else for (int i = 0; i < op->n; i++) op->data[i] *= op->by;
}
static R put(Op op) { if (capturing) capturing->ops[capturing->count++] = op; else run(&op); return 0; }

R cuInit(unsigned f) { return env("FAKE_CUDA_INIT", 0); }
R cuDriverGetVersion(int *v) { *v = env("FAKE_CUDA_VERSION", 12060); return 0; }
R cuDeviceGetCount(int *n) { *n = 1; return 0; }
R cuDeviceGet(int *d, int i) { *d = i; return i == 0 ? 0 : 101; }
R cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 8 : a == 76 ? 7 : a == 18; return 0; }
R cuDeviceGetName(char *name, int size, int d) { snprintf(name, size, "Fake Orin"); return 0; }
R cuDevicePrimaryCtxRetain(void **c, int d) { *c = (void *)16; return 0; }
R cuCtxSetCurrent(void *c) { return c == (void *)16 ? 0 : 201; }
R cuMemGetInfo_v2(size_t *f, size_t *t) { *f = 3u << 20; *t = 8u << 20; return 0; }
R cuMemAlloc_v2(uint64_t *p, size_t n) {
  if (n > (size_t)env("FAKE_CUDA_MEMORY", 1 << 30)) return 2;
  *p = (uint64_t)(uintptr_t)malloc(n); return 0;
}
R cuMemFree_v2(uint64_t p) { free((void *)(uintptr_t)p); return 0; }
R cuMemHostAlloc(void **p, size_t n, unsigned f) { *p = malloc(n); return 0; }
R cuMemFreeHost(void *p) { free(p); return 0; }
R cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t n, void *s) {
  return put((Op){0, (void *)(uintptr_t)to, from, n});
}
R cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t n, void *s) {
  return put((Op){0, to, (void *)(uintptr_t)from, n});
}
R cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t n, void *s) {
  return put((Op){0, (void *)(uintptr_t)to, (void *)(uintptr_t)from, n});
}
R cuStreamCreate(void **s, unsigned f) { *s = malloc(1); return f == 1 ? 0 : 1; }
R cuStreamDestroy_v2(void *s) { free(s); return 0; }
R cuStreamSynchronize(void *s) { return capturing ? 900 : env("FAKE_CUDA_SYNC", 0); }
R cuEventCreate(void **e, unsigned f) { *e = malloc(1); return 0; }
R cuEventDestroy_v2(void *e) { free(e); return 0; }
R cuEventRecord(void *e, void *s) { return capturing ? 900 : 0; }
R cuEventRecordWithFlags(void *e, void *s, unsigned f) { return capturing && f == 1 ? 0 : 1; }
R cuEventSynchronize(void *e) { return 0; }
R cuEventElapsedTime(float *ms, void *a, void *b) { *ms = 1.5f; return 0; }
R cuModuleLoadData(void **m, const void *image) {
  if (strncmp(image, ".version", 8)) return 200;
  *m = malloc(1); return 0;
}
R cuModuleUnload(void *m) { free(m); return 0; }
R cuModuleGetFunction(void **f, void *m, const char *name) {
  *f = &kernel; return strcmp(name, "scale") ? 500 : 0;
}
R cuFuncSetAttribute(void *f, int a, int v) { return a == 8 && v <= 100000 ? 0 : 1; }
R cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                 unsigned bz, unsigned shared, void *s, void **args, void **extra) {
  if (f != &kernel || gx * bx < (unsigned)*(int *)args[1] || !gy || !gz || !by || !bz) return 1;
  return put((Op){.kind = 1, .data = *(float **)args[0], .n = *(int *)args[1], .by = *(float *)args[2]});
}
R cuLaunchHostFunc(void *s, void (*f)(void *), void *with) {
  return put((Op){.kind = 2, .host = f, .with = with});
}
R cuStreamBeginCapture_v2(void *s, int mode) {
  if (mode != 1 || env("FAKE_CUDA_NO_CAPTURE", 0)) return 801;
  capturing = calloc(1, sizeof *capturing); return 0;
}
R cuStreamEndCapture(void *s, void **g) { *g = capturing; capturing = 0; return *g ? 0 : 901; }
R cuGraphInstantiateWithFlags(void **e, void *g, uint64_t f) {
  *e = malloc(sizeof(Graph)); memcpy(*e, g, sizeof(Graph)); return 0;
}
R cuGraphDestroy(void *g) { free(g); return 0; }
R cuGraphLaunch(void *e, void *s) {
  Graph *g = e; for (int i = 0; i < g->count; i++) run(&g->ops[i]); return 0;
}
R cuGraphExecDestroy(void *e) { free(e); return 0; }

// cuda-bindings asks for every symbol here, without its version
R cuGetProcAddress_v2(const char *name, void **f, int version, uint64_t flags, int *status) {
  char full[128];
  snprintf(full, sizeof full, "%s_v2", name);
  void *self = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
  *f = dlsym(self, full);
  if (!*f) *f = dlsym(self, name);
  if (!*f && !strcmp(name, "cuGraphInstantiate")) *f = dlsym(self, "cuGraphInstantiateWithFlags");
  if (status) *status = *f ? 0 : 1;
  return *f ? 0 : 500;
}
R cuGetProcAddress(const char *name, void **f, int version, uint64_t flags) {
  return cuGetProcAddress_v2(name, f, version, flags, 0);
}
