# Students: one job a run. Its checkpoints lie in an undeclared folder, since Snakemake removes the
# outputs of a job that was interrupted; the declared files appear when the run is finished.


rule distill:
    input:
        distill_inputs,
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
        gpu=lambda w: gpus(w.run),
    params:
        config=CONFIG,
        launch=launcher,
        spec=lambda w: as_param(spec_of(w.run)),
    shell:
        "{params.launch} -m tad.distill --config {params.config} --run {wildcards.run}"
        " > {log} 2>&1"
