# Models pre-trained here (smoke and mini scale), or brought by a package (smollm), each once,
# shared by all runs that use it.


rule pretrain:
    input:
        pretraining_inputs,
    output:
        *(f"{ROOT}/models/{{model}}/{{checkpoint}}/{name}" for name in MODEL_FILES),
        f"{ROOT}/models/{{model}}/{{checkpoint}}/manifest.json",
        f"{ROOT}/models/{{model}}/{{checkpoint}}/train.jsonl",
    log:
        f"{ROOT}/logs/models/{{model}}/{{checkpoint}}.log",
    benchmark:
        f"{ROOT}/benchmarks/models/{{model}}/{{checkpoint}}.tsv"
    wildcard_constraints:
        model=f"(?!(?:{PACKAGED})/)[^/]+" if PACKAGED else "[^/]+",
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=memory("pretrain", no_gpu),
        runtime=minutes("pretrain", no_gpu),
    params:
        config=CONFIG,
        overrides=words_of_overrides,
        spec=lambda w: as_param(pretraining_of(w)),
    shell:
        "tad pretrain --config {params.config:q} {params.overrides:q} --model {wildcards.model:q}"
        " --checkpoint {wildcards.checkpoint:q} > {log:q} 2>&1"


rule convert:
    output:
        *(f"{ROOT}/models/{{model}}/{{checkpoint}}/{name}" for name in MODEL_FILES),
        f"{ROOT}/models/{{model}}/{{checkpoint}}/manifest.json",
    log:
        f"{ROOT}/logs/models/{{model}}/{{checkpoint}}.log",
    benchmark:
        f"{ROOT}/benchmarks/models/{{model}}/{{checkpoint}}.tsv"
    wildcard_constraints:
        model=PACKAGED or "none",
    conda:
        ENVIRONMENT
    threads: 1
    params:
        config=CONFIG,
        overrides=words_of_overrides,
        spec=lambda w: as_param(checkpoint_of(SUITE, w.model, w.checkpoint)),
    shell:
        "tad convert --config {params.config:q} {params.overrides:q} --model {wildcards.model:q}"
        " --checkpoint {wildcards.checkpoint:q} > {log:q} 2>&1"
