//! Families of hostile domains: each makes a text of `n` pieces of one kind.

/// Family: its name, and the function that makes a text of `n` pieces.
pub type Family = (&'static str, fn(usize) -> String);

/// Families of everything that was once, or could be, worse than linear.
pub const FAMILIES: &[Family] = &[
    ("attributes of one element", attributes),
    ("attributes of many elements", wide_elements),
    ("elements", |n| domain("", &"<a/>".repeat(n))),
    ("containers", |n| {
        domain("", &"<cputune/><memoryBacking/>".repeat(n))
    }),
    ("notes in other namespaces", notes),
    ("namespaces in long words", long_namespaces),
    ("requests", |n| {
        domain(
            &"<r:request xmlns:r='https://virtfit.dev/ns/request/1' profile='fit'/>".repeat(n),
            "",
        )
    }),
    ("pins", |n| {
        tune(n, |i| format!("<vcpupin vcpu='{i}' cpuset='{}'/>", i % 32))
    }),
    ("pins on any CPU", |n| {
        tune(n, |i| format!("<vcpupin vcpu='{i}' cpuset='0-16383'/>"))
    }),
    ("a long list", |n| {
        domain(
            "",
            &format!(
                "<cputune><emulatorpin cpuset='0{}'/></cputune>",
                ",0-16383,^16383".repeat(n)
            ),
        )
    }),
    ("schedulers", |n| {
        tune(n, |i| {
            format!("<vcpusched vcpus='{i}' scheduler='fifo' priority='1'/>")
        })
    }),
    ("pins behind others", |n| {
        let pins = each(n.min(16_000), |i| format!("<vcpupin vcpu='{i}' cpuset='1'/>"));
        domain("", &format!("<cputune>{}{pins}</cputune>", "<a/>".repeat(n)))
    }),
    ("a comment beside pins", |n| {
        domain(
            "",
            &format!(
                "<cputune><vcpupin vcpu='0' cpuset='1'/><!--{}-->\n</cputune>",
                "-x".repeat(n)
            ),
        )
        .replace("<vcpu>16</vcpu>", &format!("<vcpu>{}</vcpu>", n.min(16_000)))
    }),
    ("cells", cells),
    ("pages", |n| {
        domain(
            "",
            &format!(
                "<memoryBacking><hugepages>{}</hugepages></memoryBacking>",
                "<page size='x'/>".repeat(n)
            ),
        )
    }),
    ("memory devices", |n| {
        devices(n, |_| {
            "<memory model='dimm'><target><size>x</size><node>0</node></target></memory>".into()
        })
    }),
    ("iothreads", |n| {
        domain("", &format!("<iothreads>{}</iothreads>", n.min(16_384)))
    }),
    ("iothread ids", |n| {
        domain(
            "",
            &format!(
                "<iothreadids>{}</iothreadids>",
                each(n, |i| format!("<iothread id='{}'/>", u32::MAX - i as u32))
            ),
        )
    }),
    ("disks", |n| {
        devices(n, |i| {
            format!(
                "<disk type='file'><driver io='native' cache='none'/><source file='/x'/><target dev='vd{i}' bus='virtio'/></disk>"
            )
        })
    }),
    ("disks and iothreads", |n| {
        devices(n, |i| format!("<disk type='block'><driver iothread='1-16000'/><source dev='/dev/x'/><target dev='vd{i}' bus='virtio'/></disk>"))
            .replace("<devices>", &format!("<iothreads>{}</iothreads><devices>", n.min(16_000)))
    }),
    ("mappings", |n| {
        let threads = each(n, |i| format!("<iothread id='{i}'/>"));
        devices(1, |_| {
            format!(
                "<disk type='block'><driver><iothreads>{threads}</iothreads></driver><target dev='vda' bus='virtio'/></disk>"
            )
        })
    }),
    ("controllers", |n| {
        devices(n, |_| "<controller type='scsi' model='virtio-scsi'/>".into())
    }),
    ("addresses", |n| {
        devices(n, |i| {
            format!(
                "<hostdev type='pci'><source><address bus='{}' slot='{}'/></source></hostdev>",
                i % 256,
                i % 32
            )
        })
    }),
    ("networks", |n| {
        devices(n, |i| {
            format!("<interface type='network'><source network='n{i}'/></interface>")
        })
    }),
    ("features", |n| {
        domain(
            "",
            &format!(
                "<cpu mode='host-model'>{}</cpu>",
                each(n, |i| format!("<feature name='f{i}'/>"))
            ),
        )
    }),
    ("models", |n| {
        domain(
            "",
            &format!(
                "<cpu mode='custom'>{}</cpu>",
                "<model>x</model><vendor>y</vendor>".repeat(n)
            ),
        )
    }),
    ("entities", |n| {
        domain(
            "",
            &format!("<title>{}</title>", "&amp;&#65;<!-- --><![CDATA[x]]>".repeat(n)),
        )
    }),
    ("records of pins", |n| {
        recorded(&each(n, |i| {
            format!("<v:set at='vcpupin/{i}' wrote='{}'/>", i % 32)
        }))
    }),
    ("records of floating threads", |n| {
        recorded(&each(n, |i| format!("<v:set at='vcpupin/{i}' wrote='0-16383'/>")))
    }),
    ("records of strides", |n| {
        recorded(&each(n, |i| {
            format!("<v:set at='vcpupin/{i}' wrote='0-16383:2'/>")
        }))
    }),
    ("records of disks", |n| {
        let records = each(n, |i| {
            format!(
                "<v:set at='disk/vd{i}/cache' wrote='none'/><v:set at='disk/vd{i}/io' wrote='native'><v:was attr='io' raw='native'/></v:set>"
            )
        });
        let disks = each(n, |i| {
            format!("<disk type='file'><driver io='native' cache='none'/><target dev='vd{i}'/></disk>")
        });
        recorded(&records).replace("</domain>", &format!("<devices>{disks}</devices></domain>"))
    }),
    ("records of interfaces", |n| {
        let mac = |i: usize| format!("52:54:00:{:02x}:{:02x}:{:02x}", i >> 16, (i >> 8) % 256, i % 256);
        let records = each(n, |i| {
            format!("<v:set at='interface/{}/queues' wrote='4'/>", mac(i))
        });
        let interfaces = each(n, |i| {
            format!(
                "<interface type='bridge'><mac address='{}'/><driver queues='4'/></interface>",
                mac(i)
            )
        });
        recorded(&records).replace("</domain>", &format!("<devices>{interfaces}</devices></domain>"))
    }),
    ("devices at the end of a chain of buses", |n| {
        devices(n, |i| {
            format!(
                "<controller type='pci' index='{}'><address type='pci' bus='{i}'/></controller>\
                 <controller type='pci' index='{}' model='pcie-expander-bus'/>\
                 <hostdev type='pci'><source><address bus='{}'/></source><address type='pci' bus='{n}'/></hostdev>",
                i + 1,
                n + i + 1,
                i % 256,
            )
        })
    }),
    ("reservations of caches", |n| {
        tune(n, |i| {
            format!(
                "<cachetune vcpus='{i}'><cache id='{i}' level='3'/></cachetune><memorytune vcpus='0-{i}'><node id='{i}'/></memorytune>"
            )
        })
    }),
    ("records of features", |n| {
        recorded(&each(n, |i| {
            format!("<v:set at='feature/f{i}' wrote='require'/>")
        }))
    }),
    ("records of containers", |n| {
        recorded(&each(n, |i| format!("<v:container at='disk/vd{i}'/>")))
    }),
    ("one container many times", |n| {
        recorded(&"<v:container at='cputune'/>".repeat(n))
    }),
    ("pieces of one setting", |n| {
        let devices = each(n, |i| {
            format!("<sound><address type='pci' bus='{}'/></sound>", i % 256)
        });
        let piece = "<v:was raw=\"&lt;memballoon model='virtio'&gt;&lt;address type='pci' slot='0x09'/&gt;&lt;/memballoon&gt;\"/>";
        recorded(&format!(
            "<v:set at='memballoon' wrote='none'>{}</v:set>",
            piece.repeat(n)
        ))
        .replace(
            "</domain>",
            &format!("<devices><memballoon model='none'/>{devices}</devices></domain>"),
        )
    }),
    ("schedulers that are gone, in many containers", |n| {
        gone(
            each(n, |i| {
                format!("<v:was raw='&#10;&lt;vcpusched/&gt;' pos='{i}/{i}+0'/>")
            }),
            &"<a/>".repeat(n),
        )
    }),
    ("schedulers that are gone, behind comments", |n| {
        let was = each(n, |i| {
            format!("<v:was raw='&#10;&lt;vcpusched/&gt;' pos='0+{i}'/>")
        });
        gone(was, &format!("<!--{}--><a/>", "-x".repeat(n)))
    }),
    ("schedulers that are gone, behind what goes", |n| {
        let was = each(n, |i| {
            format!("<v:was raw='&#10;&lt;vcpusched/&gt;' pos='0+{i}'/>")
        });
        gone(
            was,
            &each(n, |i| {
                format!("<vcpusched vcpus='{i}' scheduler='fifo' priority='1'/>")
            }),
        )
    }),
];

fn each(n: usize, piece: impl Fn(usize) -> String) -> String {
    (0..n).map(piece).collect()
}

fn domain(metadata: &str, inner: &str) -> String {
    format!(
        "<domain type='kvm'>\n<name>g</name>\n<uuid>a37a9b65-15f7-58b0-990d-11ce0c9a3af9</uuid>\n<metadata>{metadata}</metadata>\n\
         <memory>4194304</memory>\n<vcpu>16</vcpu>\n{inner}\n<os><type arch='x86_64' machine='q35'>hvm</type></os>\n</domain>\n"
    )
}

fn devices(n: usize, device: impl Fn(usize) -> String) -> String {
    domain("", &format!("<devices>{}</devices>", each(n, device)))
}

/// Makes a guest with as many vCPUs as libvirt accepts.
fn tune(n: usize, piece: impl Fn(usize) -> String) -> String {
    let n = n.min(16_384);
    domain("", &format!("<cputune>{}</cputune>", each(n, piece)))
        .replace("<vcpu>16</vcpu>", &format!("<vcpu>{n}</vcpu>"))
}

fn attributes(n: usize) -> String {
    domain("", &format!("<a{}/>", each(n, |i| format!(" a{i}=''"))))
}

fn wide_elements(n: usize) -> String {
    let wide = format!("<disk{}/>", each(250, |i| format!(" a{i}=''")));
    domain("", &format!("<devices>{}</devices>", wide.repeat(n / 250)))
}

fn notes(n: usize) -> String {
    let root = format!("<domain{} type='kvm'>", each(250, |i| format!(" a{i}=''")));
    domain(&"<a:b/>".repeat(n), "").replace("<domain type='kvm'>", &root)
}

fn long_namespaces(n: usize) -> String {
    let root = format!("<domain xmlns:a='{}' type='kvm'>", "&amp;".repeat(n));
    domain(&"<a:b/>".repeat(n), "").replace("<domain type='kvm'>", &root)
}

fn cells(n: usize) -> String {
    let cells = each(n, |i| format!("<cell id='{i}' memory='1024'/>"));
    let bound = each(n, |i| {
        format!("<memnode cellid='{i}' mode='strict' nodeset='0-16383'/>")
    });
    domain(
        "",
        &format!("<numatune>{bound}</numatune><cpu><numa>{cells}</numa></cpu>"),
    )
}

/// Makes a domain whose own record says what virtfit wrote into it.
fn recorded(records: &str) -> String {
    let fit = format!(
        "<v:fit xmlns:v='https://virtfit.dev/ns/domain/1' version='1' profile='fit' policy='0' on-no-fit='run-shared' threads='1'>{records}</v:fit>"
    );
    domain(&fit, "")
}

/// Makes a domain in which schedulers have to be put back.
fn gone(was: String, cputune: &str) -> String {
    let records = format!(
        "<v:container at='cputune' was=' '/><v:set at='vcpusched' wrote='fifo 1: 0-15'>{was}</v:set>"
    );
    let sched = "<vcpusched vcpus='0-15' scheduler='fifo' priority='1'/>";
    recorded(&records).replace(
        "</metadata>",
        &format!("</metadata><cputune>{cputune}{sched}</cputune>"),
    )
}
