# Tables and figures from the records below a root. Nothing here needs a model.


rule draw_figure1:
    input:
        run_records("figure1", "train.jsonl"),
    output:
        report(
            "{root}/figures/figure1.png",
            caption="../report/figure1.rst",
            category="Figures",
            labels={"item": "Figure 1"},
        ),
        "{root}/figures/figure1.pdf",
        "{root}/figures/figure1.csv",
    log:
        "{root}/logs/analysis/figure1.log",
    conda:
        ENVIRONMENT
    threads: 1
    params:
        config=CONFIG,
    shell:
        "python -m analysis.figures figure1 --config {params.config} --root {wildcards.root}"
        " > {log} 2>&1"


rule draw_figure2:
    input:
        teacher_records,
    output:
        report(
            "{root}/figures/figure2.png",
            caption="../report/figure2.rst",
            category="Figures",
            labels={"item": "Figure 2"},
        ),
        "{root}/figures/figure2.pdf",
        "{root}/figures/figure2.csv",
    log:
        "{root}/logs/analysis/figure2.log",
    conda:
        ENVIRONMENT
    threads: 1
    params:
        config=CONFIG,
    shell:
        "python -m analysis.figures figure2 --config {params.config} --root {wildcards.root}"
        " > {log} 2>&1"


rule table_heldout:
    input:
        run_records(None, "heldout.json"),
    output:
        "{root}/tables/heldout.csv",
        report(
            "{root}/tables/heldout.html",
            caption="../report/heldout.rst",
            category="Tables",
            labels={"item": "Held-out divergences"},
        ),
        "{root}/tables/heldout.md",
        "{root}/tables/heldout.tex",
    log:
        "{root}/logs/analysis/heldout.log",
    conda:
        ENVIRONMENT
    threads: 1
    params:
        config=CONFIG,
    shell:
        "python -m analysis.tables heldout --config {params.config} --root {wildcards.root}"
        " > {log} 2>&1"


rule figure1:
    input:
        expand(rules.draw_figure1.output, root=ROOT),


rule figure2:
    input:
        expand(rules.draw_figure2.output, root=ROOT),


rule heldout:
    input:
        expand(rules.table_heldout.output, root=ROOT),


rule figures:
    input:
        rules.figure1.input,
        rules.figure2.input,


rule tables:
    input:
        rules.heldout.input,
