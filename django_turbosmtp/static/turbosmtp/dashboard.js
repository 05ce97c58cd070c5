// Draws the numbers of a table as a bar chart. Without it, the table has the numbers.
"use strict";

(() => {
    const colours = {
        sent: "--turbosmtp-good",
        delivered: "--turbosmtp-delivered",
        opened: "--turbosmtp-opened",
        bounced: "--turbosmtp-bounced",
        complained: "--turbosmtp-complained",
        failed: "--turbosmtp-bad",
        unknown: "--turbosmtp-doubt",
    };

    function read(table) {
        const rows = [...table.tBodies[0].rows];
        const heads = [...table.tHead.rows[0].querySelectorAll("[data-series]")];
        return {
            labels: rows.map((row) => row.cells[0].textContent.trim()),
            series: heads.map((head, number) => ({
                name: head.dataset.series,
                label: head.textContent.trim(),
                data: rows.map((row) =>
                    Number(row.querySelectorAll("[data-value]")[number].dataset.value),
                ),
            })),
        };
    }

    function draw(canvas, table) {
        const style = getComputedStyle(document.documentElement);
        const pick = (name) => style.getPropertyValue(name).trim();
        const text = pick("--body-fg");
        const grid = pick("--border-color");
        const rtl = document.documentElement.dir === "rtl";
        const { labels, series } = read(table);
        return new Chart(canvas, {
            type: "bar",
            data: {
                labels,
                datasets: series.map(({ name, label, data }) => ({
                    label,
                    data,
                    backgroundColor: pick(colours[name] || "--body-quiet-color"),
                })),
            },
            options: {
                animation: false,
                maintainAspectRatio: false,
                color: text,
                plugins: { legend: { rtl } },
                scales: {
                    x: {
                        stacked: true,
                        reverse: rtl,
                        ticks: { color: text },
                        grid: { color: grid },
                    },
                    y: {
                        stacked: true,
                        beginAtZero: true,
                        position: rtl ? "right" : "left",
                        ticks: { color: text, precision: 0 },
                        grid: { color: grid },
                    },
                },
            },
        });
    }

    for (const table of document.querySelectorAll("table[data-chart]")) {
        const canvas = document.getElementById(table.dataset.chart);
        let chart = null;
        const redraw = () => {
            chart?.destroy();
            chart = draw(canvas, table);
        };
        canvas.parentElement.hidden = false;
        redraw();
        // Use the new colours after a switch between light and dark.
        new MutationObserver(redraw).observe(document.documentElement, {
            attributeFilter: ["data-theme"],
        });
        matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    }
})();
