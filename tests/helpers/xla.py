"""XLA options of the tests. Compiling is most of what they cost, so programs are compiled with few optimizations.

A test whose subject is the compiled program, or whose promise is about bits, passes `PRODUCTION` to `jax.jit` or to
`compile`. With `XLA_FLAGS= pytest` everything is compiled as in production.
"""

_QUICK_AND_PRODUCTION: dict[str, tuple[int | bool, int | bool]] = {
    "xla_backend_optimization_level": (0, 3),
    "xla_cpu_use_fusion_emitters": (False, True),
    "xla_cpu_parallel_codegen_split_count": (1, 32),
    "xla_llvm_disable_expensive_passes": (True, False),
}

QUICK_FLAGS = " ".join(f"--{name}={quick}".lower() for name, (quick, _) in _QUICK_AND_PRODUCTION.items())
PRODUCTION = {name: production for name, (_, production) in _QUICK_AND_PRODUCTION.items()}
