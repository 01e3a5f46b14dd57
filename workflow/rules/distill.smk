# What MiniPLM and Seq-KD train on: sequences that the teacher prefers, and text that it writes.
# Both go on with the finished blocks after an interruption.


rule select:
    input:
        selection_inputs,
    output:
        f"{ROOT}/selections/{{stage}}/{{pair}}/seed{{seed}}/scores.npz",
        f"{ROOT}/selections/{{stage}}/{{pair}}/seed{{seed}}/selection.json",
    log:
        f"{ROOT}/logs/selections/{{stage}}/{{pair}}/seed{{seed}}.log",
    benchmark:
        f"{ROOT}/benchmarks/selections/{{stage}}/{{pair}}/seed{{seed}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=one_gpu,
        mem_mb=memory("select"),
        runtime=minutes("select"),
    params:
        options=selection_options,
    shell:
        "tad select {params.options:q} > {log:q} 2>&1"


rule generate:
    input:
        generation_inputs,
    output:
        f"{ROOT}/generated/{{stage}}/{{pair}}/seed{{seed}}/train.bin",
        f"{ROOT}/generated/{{stage}}/{{pair}}/seed{{seed}}/manifest.json",
    log:
        f"{ROOT}/logs/generated/{{stage}}/{{pair}}/seed{{seed}}.log",
    benchmark:
        f"{ROOT}/benchmarks/generated/{{stage}}/{{pair}}/seed{{seed}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=one_gpu,
        mem_mb=memory("generate"),
        runtime=minutes("generate"),
    params:
        options=generation_options,
    shell:
        "tad generate {params.options:q} > {log:q} 2>&1"


# The states of a teacher on the rows of a stage, for all runs on them. The large file beside the
# output is no output, since it is removed when every run of the scale is finished (Snakefile): a run
# that comes later runs the teacher itself. As temp() the states would be made again for it, and all
# other runs after them.


rule states:
    input:
        states_inputs,
    output:
        f"{ROOT}/states/{{stage}}/{{pair}}/seed{{seed}}/states.json",
    log:
        f"{ROOT}/logs/states/{{stage}}/{{pair}}/seed{{seed}}.log",
    benchmark:
        f"{ROOT}/benchmarks/states/{{stage}}/{{pair}}/seed{{seed}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=one_gpu,
        mem_mb=memory("states"),
        runtime=minutes("states"),
    params:
        options=states_options,
    shell:
        "tad states {params.options:q} > {log:q} 2>&1"


# Students: one job a run. Its checkpoints lie in an undeclared folder, since Snakemake removes the
# outputs of a job that was interrupted; the declared files appear when the run is finished.


rule distill:
    input:
        distill_inputs,
        states_files,
    output:
        *(f"{ROOT}/runs/{{run}}/{name}" for name in MODEL_FILES),
        f"{ROOT}/runs/{{run}}/manifest.json",
        f"{ROOT}/runs/{{run}}/train.jsonl",
    log:
        f"{ROOT}/logs/runs/{{run}}/distill.log",
    benchmark:
        f"{ROOT}/benchmarks/runs/{{run}}/distill.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=run_gpus,
        mem_mb=memory("distill", run_gpus),
        runtime=minutes("distill", run_gpus),
    params:
        config=CONFIG,
        overrides=words_of_overrides,
        launch=launcher if SUITE.pretraining is None else command,
        spec=lambda w: as_param(spec_of(w.run)),
    shell:
        "{params.launch:q} run {wildcards.run:q} --config {params.config:q} {params.overrides:q}"
        " > {log:q} 2>&1"
