# Tables and figures from the records below a root. Nothing here needs a model.


rule draw_figure1:
    input:
        records_of("figure1"),
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
        "tad figures figure1 --config {params.config} --root {wildcards.root}"
        " > {log} 2>&1"


rule draw_figure2:
    input:
        records_of("figure2"),
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
        "tad figures figure2 --config {params.config} --root {wildcards.root}"
        " > {log} 2>&1"


rule table_heldout:
    input:
        lambda w: records_of(w.kind)(w),
    output:
        "{root}/tables/{kind}.csv",
        report(
            "{root}/tables/{kind}.html",
            caption="../report/heldout.rst",
            category="Tables",
            labels={"item": "Held-out, {kind}"},
        ),
        "{root}/tables/{kind}.md",
        "{root}/tables/{kind}.tex",
    log:
        "{root}/logs/analysis/{kind}.log",
    wildcard_constraints:
        kind="heldout|ablations",
    conda:
        ENVIRONMENT
    threads: 1
    params:
        config=CONFIG,
    shell:
        "tad tables {wildcards.kind} --config {params.config}"
        " --root {wildcards.root} > {log} 2>&1"


rule table_scores:
    input:
        lambda w: records_of(f"table{w.number}")(w),
    output:
        "{root}/tables/table{number}.csv",
        report(
            "{root}/tables/table{number}.html",
            caption="../report/scores.rst",
            category="Tables",
            labels={"item": "Table {number}"},
        ),
        "{root}/tables/table{number}.md",
        "{root}/tables/table{number}.tex",
    log:
        "{root}/logs/analysis/table{number}.log",
    wildcard_constraints:
        number="[124678]",
    conda:
        ENVIRONMENT
    threads: 1
    params:
        config=CONFIG,
    shell:
        "tad tables table{wildcards.number} --config {params.config}"
        " --root {wildcards.root} > {log} 2>&1"


rule table_calibration:
    input:
        calibrated_sums,
    output:
        "{root}/tables/calibration.csv",
        report(
            "{root}/tables/calibration.html",
            caption="../report/calibration.rst",
            category="Calibration",
            labels={"item": "Full-ECE of every student"},
        ),
        "{root}/tables/calibration.md",
        "{root}/tables/calibration.tex",
    log:
        "{root}/logs/analysis/calibration.log",
    conda:
        ENVIRONMENT
    threads: 1
    params:
        config=CONFIG,
    shell:
        "tad tables calibration --config {params.config} --root {wildcards.root}"
        " > {log} 2>&1"


rule draw_calibration:
    input:
        calibrated_records,
    output:
        report(
            "{root}/figures/reliability_{pair}.png",
            caption="../report/reliability.rst",
            category="Calibration",
            labels={"item": "Reliability, {pair}"},
        ),
        report(
            "{root}/figures/tail_{pair}.png",
            caption="../report/tail.rst",
            category="Calibration",
            labels={"item": "Tail, {pair}"},
        ),
        "{root}/figures/reliability_{pair}.pdf",
        "{root}/figures/tail_{pair}.pdf",
    log:
        "{root}/logs/analysis/calibration_{pair}.log",
    conda:
        ENVIRONMENT
    threads: 1
    params:
        config=CONFIG,
    shell:
        "tad figures calibration --pair {wildcards.pair}"
        " --config {params.config} --root {wildcards.root} > {log} 2>&1"


rule make_table3:
    output:
        "{root}/tables/table3.csv",
        report(
            "{root}/tables/table3.html",
            caption="../report/table3.rst",
            category="Tables",
            labels={"item": "Table 3"},
        ),
        "{root}/tables/table3.md",
        "{root}/tables/table3.tex",
    log:
        "{root}/logs/analysis/make_table3.log",
    conda:
        ENVIRONMENT
    threads: 1
    shell:
        "python -m analysis.tables.table3 --root {wildcards.root} > {log} 2>&1"


rule make_table5:
    input:
        records_of("table5"),
    output:
        "{root}/tables/table5.csv",
        report(
            "{root}/tables/table5.html",
            caption="../report/table5.rst",
            category="Tables",
            labels={"item": "Table 5"},
        ),
        "{root}/tables/table5.md",
        "{root}/tables/table5.tex",
        report(
            "{root}/figures/table5.png",
            caption="../report/table5.rst",
            category="Tables",
            labels={"item": "Table 5"},
        ),
        "{root}/figures/table5.pdf",
        "{root}/figures/table5.csv",
    log:
        "{root}/logs/analysis/make_table5.log",
    conda:
        ENVIRONMENT
    threads: 1
    params:
        config=CONFIG,
    shell:
        "python -m analysis.tables.table5 --config {params.config} --root {wildcards.root} > {log} 2>&1"


rule make_table9:
    output:
        "{root}/tables/table9.csv",
        report(
            "{root}/tables/table9.html",
            caption="../report/table9.rst",
            category="Tables",
            labels={"item": "Table 9"},
        ),
        "{root}/tables/table9.md",
        "{root}/tables/table9.tex",
    log:
        "{root}/logs/analysis/make_table9.log",
    conda:
        ENVIRONMENT
    threads: 1
    shell:
        "python -m analysis.tables.table9 --root {wildcards.root} > {log} 2>&1"


rule judge_claims:
    input:
        every_record,
    output:
        "{root}/tables/claims.csv",
        report(
            "{root}/tables/claims.html",
            caption="../report/claims.rst",
            category="Claims",
            labels={"item": "Claims"},
        ),
        "{root}/tables/claims.md",
        "{root}/tables/claims.tex",
        "{root}/tables/claims_by_pair.csv",
        report(
            "{root}/tables/claims_by_pair.html",
            caption="../report/claims.rst",
            category="Claims",
            labels={"item": "Claims, by pair"},
        ),
        "{root}/tables/claims_by_pair.md",
        "{root}/tables/claims_by_pair.tex",
    log:
        "{root}/logs/analysis/judge_claims.log",
    conda:
        ENVIRONMENT
    threads: 1
    params:
        config=CONFIG,
    shell:
        "tad claims --config {params.config} --root {wildcards.root} > {log} 2>&1"


rule draw_gradients:
    output:
        report(
            "{root}/figures/gradients.png",
            caption="../report/gradients.rst",
            category="Figures",
            labels={"item": "Gradient of tail logits (Section 2.1)"},
        ),
        "{root}/figures/gradients.pdf",
        "{root}/figures/gradients.csv",
    log:
        "{root}/logs/analysis/draw_gradients.log",
    conda:
        ENVIRONMENT
    threads: 1
    shell:
        "python -m analysis.figures.gradients --out {wildcards.root}/figures > {log} 2>&1"


rule table_costs:
    input:
        every_record,
    output:
        "{root}/tables/costs.csv",
        report(
            "{root}/tables/costs.html",
            caption="../report/costs.rst",
            category="Tables",
            labels={"item": "Costs of the runs"},
        ),
        "{root}/tables/costs.md",
        "{root}/tables/costs.tex",
    log:
        "{root}/logs/analysis/costs.log",
    conda:
        ENVIRONMENT
    threads: 1
    params:
        config=CONFIG,
    shell:
        "python -m analysis.tables.costs --config {params.config} --root {wildcards.root}"
        " > {log} 2>&1"


rule draw_labels:
    output:
        report(
            "{root}/figures/labels.png",
            caption="../report/labels.rst",
            category="Figures",
            labels={"item": "TAD and DKD against the label"},
        ),
        "{root}/figures/labels.pdf",
        "{root}/figures/labels.csv",
    log:
        "{root}/logs/analysis/labels.log",
    conda:
        ENVIRONMENT
    threads: 1
    shell:
        "python -m analysis.figures.labels --out {wildcards.root}/figures > {log} 2>&1"


rule draw_selection:
    input:
        selection_records,
    output:
        report(
            "{root}/figures/selection.png",
            caption="../report/selection.rst",
            category="Figures",
            labels={"item": "MiniPLM scores"},
        ),
        "{root}/figures/selection.pdf",
        "{root}/figures/selection.csv",
    log:
        "{root}/logs/analysis/selection.log",
    conda:
        ENVIRONMENT
    threads: 1
    params:
        selections=selection_names,
    shell:
        "python -m analysis.figures.selection --out {wildcards.root}/figures/selection"
        " {params.selections} > {log} 2>&1"


rule audit_page:
    output:
        report(
            "{root}/tables/audit.html",
            caption="../report/audit.rst",
            category="Audit",
            labels={"item": "The paper's printed numbers"},
        ),
    log:
        "{root}/logs/analysis/audit.log",
    conda:
        ENVIRONMENT
    threads: 1
    shell:
        "tad audit audit --out {output} > {log} 2>&1"
