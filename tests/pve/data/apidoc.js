const apiSchema = [
   {
      "children" : [
         {
            "children" : [
               {
                  "children" : [
                     {
                        "info" : { "GET" : { "method" : "GET", "parameters" : { "additionalProperties" : 0 } } },
                        "leaf" : 1,
                        "path" : "/nodes/{node}/qemu/{vmid}",
                        "text" : "{vmid}"
                     }
                  ],
                  "info" : {
                     "GET" : { "method" : "GET" },
                     "POST" : {
                        "method" : "POST",
                        "parameters" : {
                           "additionalProperties" : 0,
                           "properties" : {
                              "acpi" : { "default" : 1, "description" : "Whether there is ACPI.", "optional" : 1, "type" : "boolean" },
                              "agent" : {
                                 "description" : "How the agent inside is used.",
                                 "format" : {
                                    "enabled" : { "default_key" : 1, "description" : "Whether it is used.", "type" : "boolean" },
                                    "freeze-fs" : { "optional" : 1, "type" : "boolean" },
                                    "guest-fsfreeze" : { "alias" : "freeze-fs" },
                                    "type" : { "enum" : [ "virtio", "isa" ], "optional" : 1, "type" : "string" }
                                 },
                                 "optional" : 1,
                                 "type" : "string"
                              },
                              "bios" : { "description" : "Which firmware it boots.", "enum" : [ "seabios", "ovmf" ], "optional" : 1, "type" : "string" },
                              "boot" : { "description" : "What it boots from.", "format" : "pve-qm-boot", "optional" : 1, "type" : "string" },
                              "cipassword" : { "description" : "A password.", "optional" : 1, "type" : "string" },
                              "cores" : { "description" : "How many cores a socket has.\nAnd a second line.", "minimum" : 1, "optional" : 1, "type" : "integer" },
                              "cpulimit" : { "maximum" : "128", "minimum" : 0, "optional" : 1, "type" : "number" },
                              "hookscript" : { "format" : "pve-volume-id", "maxLength" : 12, "minLength" : 3, "optional" : 1, "type" : "string" },
                              "ipconfig[n]" : { "format" : "pve-qm-ipconfig", "optional" : 1, "type" : "string" },
                              "memory" : { "description" : "Its memory.", "format" : { "current" : { "default_key" : 1, "minimum" : 16, "type" : "integer" } }, "optional" : 1, "type" : "string" },
                              "name" : { "format" : "dns-name", "optional" : 1, "type" : "string" },
                              "net[n]" : {
                                 "description" : "A network interface.",
                                 "format" : {
                                    "bridge" : { "format" : "pve-bridge-id", "optional" : 1, "type" : "string" },
                                    "firewall" : { "description" : "Whether it is behind the firewall.", "optional" : 1, "type" : "boolean" },
                                    "macaddr" : { "format" : "mac-addr", "optional" : 1, "type" : "string" },
                                    "model" : { "default_key" : 1, "description" : "The card that the guest sees.", "enum" : [ "e1000", "virtio" ], "type" : "string" },
                                    "tag" : { "description" : "The VLAN.", "maximum" : 4094, "minimum" : 1, "optional" : 1, "type" : "integer" },
                                    "trunks" : { "optional" : 1, "pattern" : "(?^:\\d+(?:-\\d+)?(?:;\\d+(?:-\\d+)?)*)", "type" : "string" },
                                    "virtio" : { "alias" : "macaddr", "keyAlias" : "model" }
                                 },
                                 "optional" : 1,
                                 "type" : "string"
                              },
                              "odd" : { "optional" : 1, "pattern" : "(?<!a+)(?{ die })b", "type" : "string" },
                              "queer" : { "optional" : 1, "type" : [ "a" ], "default_key" : [], "format" : { "x" : 5 } },
                              "scsi[n]" : {
                                 "description" : "A disk.",
                                 "format" : {
                                    "discard" : { "enum" : [ "ignore", "on" ], "optional" : 1, "type" : "string" },
                                    "file" : { "default_key" : 1, "format" : "pve-volume-id-or-qm-path", "type" : "string" },
                                    "iothread" : { "description" : "Whether it has a thread of its own.", "optional" : 1, "type" : "boolean" },
                                    "size" : { "format" : "disk-size", "optional" : 1, "type" : "string" },
                                    "volume" : { "alias" : "file" }
                                 },
                                 "optional" : 1,
                                 "type" : "string"
                              },
                              "startdate" : { "description" : "What its clock says.", "optional" : 1, "pattern" : "(now|\\d{4}-\\d{1,2}-\\d{1,2})", "type" : "string" },
                              "vmid" : { "format" : "pve-vmid", "type" : "integer" }
                           }
                        }
                     }
                  },
                  "path" : "/nodes/{node}/qemu",
                  "text" : "qemu"
               },
               {
                  "info" : {
                     "POST" : {
                        "method" : "POST",
                        "parameters" : {
                           "properties" : {
                              "cores" : { "description" : "How many cores it may use.", "maximum" : 8192, "minimum" : 1, "optional" : 1, "type" : "integer" },
                              "rootfs" : {
                                 "format" : {
                                    "size" : { "format" : "disk-size", "optional" : 1, "type" : "string" },
                                    "volume" : { "default_key" : 1, "format" : "pve-lxc-mp-string", "type" : "string" }
                                 },
                                 "optional" : 1,
                                 "type" : "string"
                              }
                           }
                        }
                     }
                  },
                  "path" : "/nodes/{node}/lxc",
                  "text" : "lxc"
               }
            ],
            "path" : "/nodes/{node}",
            "text" : "{node}"
         }
      ],
      "path" : "/nodes",
      "text" : "nodes"
   }
]
;

let method2cmd = { GET: 'get', POST: 'create' };
Ext.onReady(function() { let x = [ 1, 2 ]; });
